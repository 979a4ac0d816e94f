package machine

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vmm/boot"
	"vmm/memory"
)

// packedKernel makes a bzImage with an ELF kernel of some pages in it, as it is,
// whose entry is code. At link is what the relocation table moves.
func packedKernel(t testing.TB, code []byte) string {
	t.Helper()
	const link, virtual, size = 16 << 20, 0xffff_ffff_8000_0000, 3 * 4096
	le := binary.LittleEndian
	vmlinux, err := binary.Append(nil, le, &elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Entry: link + 8, Phoff: 64, Phentsize: 56, Phnum: 1,
	})
	if err == nil {
		vmlinux, err = binary.Append(vmlinux, le, &elf.Prog64{
			Type: uint32(elf.PT_LOAD), Off: 4096, Vaddr: virtual + link, Paddr: link, Filesz: size, Memsz: 2 * size,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	vmlinux = append(vmlinux, make([]byte, 4096+size-len(vmlinux))...)
	le.PutUint64(vmlinux[4096:], virtual+link)
	copy(vmlinux[4096+8:], code)
	for _, entry := range []uint32{0, 0x8000_0000 + link, 0, 0} {
		vmlinux = le.AppendUint32(vmlinux, entry)
	}
	h := boot.SetupHeader{
		SetupSects: 1, BootFlag: 0xaa55, Jump: 0x6aeb, Magic: 0x5372_6448, Version: 0x20f, LoadFlags: 1,
		InitrdAddrMax: 0x7fff_ffff, KernelAlignment: 2 << 20, RelocatableKernel: 1, XLoadFlags: 3, CmdlineSize: 255,
		PrefAddress: link, InitSize: 4 << 20, PayloadLength: uint32(len(vmlinux)), SysSize: uint32(len(vmlinux)+15) / 16,
	}
	file := make([]byte, 1024)
	if _, err := binary.Encode(file[0x1f1:], le, &h); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(path, append(file, vmlinux...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A kernel that vmm unpacks runs, with its addresses where vmm says, however it
// got into memory.
func TestDirect(t *testing.T) {
	path := packedKernel(t, []byte{
		0x48, 0x8b, 0x05, 0xf1, 0xff, 0xff, 0xff, // mov -15(%rip), %rax: where the table says it is
		0x48, 0xc1, 0xe8, 0x15, //                   shr $21, %rax
		0xb9, 0x04, 0x00, 0x00, 0x00, //             mov $4, %ecx
		0x66, 0xba, 0xf8, 0x03, //                   mov $0x3f8, %dx
		0xee, 0x48, 0xc1, 0xe8, 0x08, // 0:          out %al, (%dx); shr $8, %rax
		0xe2, 0xf9, //                               loop 0b
		0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, // power off
		0xf4,
	})
	time.Sleep(1100 * time.Millisecond) // until the cache believes that the file stays as it is
	cache := t.TempDir()
	tests := []struct {
		name string
		edit func(*Config)
	}{
		{"without cache", func(*Config) {}},
		{"first into the cache", func(c *Config) { c.Cache = cache }},
		{"out of the cache", func(c *Config) { c.Cache = cache }},
		{"shared", func(c *Config) { c.Cache, c.ShareKernel = cache, true }},
		{"shared again", func(c *Config) { c.Cache, c.ShareKernel = cache, true }},
		{"as linked", func(c *Config) { c.KASLR = boot.KASLROff }},
		{"transparent huge pages", func(c *Config) { c.TransparentHugePages = memory.TransparentOn }},
		{"prefault", func(c *Config) { c.Prefault = true }},
		{"a cache that cannot be", func(c *Config) { c.Cache = "/proc/none" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			m := newMachine(t, nil, func(c *Config) {
				c.Kernel, c.Console = path, &out
				tt.edit(c)
			})
			if m.entry.Protocol != boot.Direct {
				t.Errorf("entered by %v", m.entry.Protocol)
			}
			o, err := m.Run(context.Background())
			if err != nil || o.Kind != PoweredOff {
				t.Fatalf("Run = %+v, %v; want power-off", o, err)
			}
			// Sign extension is not shifted in.
			want := uint32((0xffff_ffff_8000_0000 + 16<<20 + m.entry.Slide) >> 21 & 0xffff_ffff)
			if got := out.Bytes(); len(got) != 4 || binary.LittleEndian.Uint32(got) != want {
				t.Errorf("the kernel says it is at % x; want %#x, for slide %#x", got, want, m.entry.Slide)
			}
		})
	}
}

// What cannot go together is refused.
func TestShareNeeds(t *testing.T) {
	for _, edit := range []func(*Config){
		func(c *Config) {},
		func(c *Config) { c.Cache, c.HugePages = "/tmp", true },
	} {
		c := Config{CPUs: 1, Memory: 64 << 20, ShareKernel: true}
		edit(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}
