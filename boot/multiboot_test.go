package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/memory"
)

// multibootAt is a file with a Multiboot header at an offset.
func multibootAt(t testing.TB, at int, h multibootHeader, rest []byte) []byte {
	t.Helper()
	h.Magic = multibootMagic
	h.Checksum = -(h.Magic + h.Flags)
	b, err := binary.Append(bytes.Repeat([]byte{0x90}, at), le, &h)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, rest...)
}

// flatHeader is that of a flat image loaded to 1 MiB, with its header at 64.
func flatHeader() multibootHeader {
	return multibootHeader{Flags: multibootAddresses, HeaderAddr: 1<<20 + 64, LoadAddr: 1 << 20, EntryAddr: 1<<20 + 96}
}

// elf32 is a 32-bit ELF kernel with data at 4 MiB.
func elf32(t testing.TB, class elf.Class, data []byte) []byte {
	return elfFile(t, class, elf.EM_386, 4<<20+32,
		segment{kind: elf.PT_LOAD, vaddr: 4 << 20, paddr: 4 << 20, data: data, memSize: 1 << 20})
}

func TestMultiboot(t *testing.T) {
	flat := func(edit func(*multibootHeader)) []byte {
		h := flatHeader()
		edit(&h)
		return multibootAt(t, 64, h, bytes.Repeat([]byte{0xf4}, 4096))
	}
	size := uint64(64 + 32 + 4096)
	tests := []struct {
		name    string
		file    []byte
		kernel  memory.Range
		rip     uint64
		skipped int // bytes of the file that are not loaded
	}{
		{"ELF", elf32(t, elf.ELFCLASS32, multibootAt(t, 0, multibootHeader{Flags: 3}, make([]byte, 64))), memory.Range{Start: 4 << 20, Size: 1 << 20}, 4<<20 + 32, 52 + 32},
		{"flat", flat(func(*multibootHeader) {}), memory.Range{Start: 1 << 20, Size: size}, 1<<20 + 96, 0},
		{"flat, with an end", flat(func(h *multibootHeader) { h.LoadEndAddr, h.BSSEndAddr = 1<<20+200, 2<<20 }), memory.Range{Start: 1 << 20, Size: 1 << 20}, 1<<20 + 96, 0},
		{"flat, from the header on", flat(func(h *multibootHeader) { h.HeaderAddr = h.LoadAddr }), memory.Range{Start: 1 << 20, Size: size - 64}, 1<<20 + 96, 64},
		{"64-bit ELF", elf32(t, elf.ELFCLASS64, multibootAt(t, 0, multibootHeader{Flags: 3}, make([]byte, 64))), memory.Range{Start: 4 << 20, Size: 1 << 20}, 4<<20 + 32, 64 + 56},
		{"64-bit ELF with addresses in the header", elf32(t, elf.ELFCLASS64, multibootAt(t, 8, flatHeader(), make([]byte, 64))), memory.Range{Start: 1 << 20, Size: 160}, 1<<20 + 96, 64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := newGuest(t, 32<<20)
			img := parse(t, tt.file)
			img.Name = "/somewhere/kernel.elf"
			e, err := start(img, mem, Params{Cmdline: "one two", Initrd: initrd(5000)})
			if err != nil {
				t.Fatal(err)
			}
			want := Entry{
				Protocol: Multiboot, Mode: ProtectedMode, RIP: tt.rip, RAX: 0x2bad_b002, RBX: startInfoAddr, RSP: stackAddr + memory.PageSize,
				GDT: Table{Base: gdtAddr, Limit: 39}, CS: 0x08, DS: 0x10, Kernel: tt.kernel, Cmdline: "one two",
				Initrd: memory.Range{Start: 32<<20 - 8192, Size: 5000},
			}
			if diff := cmp.Diff(want, e, ignoreTold); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
			if got := bytesAt(t, mem, tt.kernel.Start, 100); !bytes.Equal(got, tt.file[tt.skipped:tt.skipped+100]) {
				t.Errorf("memory holds % x", got)
			}
			checkMultibootInfo(t, mem, e)
			if _, err := img.Inspect().WriteTo(io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
}

// A flat kernel below 1 MiB is loaded there, and told of elsewhere.
func TestMultibootBelow1MiB(t *testing.T) {
	h := flatHeader()
	h.HeaderAddr, h.LoadAddr, h.EntryAddr = 0x2040, 0x2000, 0x2060
	file := multibootAt(t, 64, h, bytes.Repeat([]byte{0xf4}, 4096))
	mem := newGuest(t, 32<<20)
	img := parse(t, file)
	img.Name = "/somewhere/kernel.elf"
	e, err := start(img, mem, Params{Cmdline: "one two", Initrd: initrd(5000)})
	if err != nil || e.RIP != 0x2060 || e.RBX == startInfoAddr {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := bytesAt(t, mem, 0x2000, len(file)); !bytes.Equal(got, file) {
		t.Error("the kernel is not all there")
	}
	checkMultibootInfo(t, mem, e)
}

// checkMultibootInfo reads the structure at the offsets that the specification
// draws.
func checkMultibootInfo(t *testing.T, mem *memory.Guest, e Entry) {
	t.Helper()
	word := func(addr uint64) uint64 { return uint64(le.Uint32(bytesAt(t, mem, addr, 4))) }
	text := func(addr uint64) string {
		s, _, _ := strings.Cut(string(bytesAt(t, mem, addr, 100)), "\x00")
		return s
	}
	module := word(e.RBX + 24)
	for _, f := range []struct {
		name      string
		got, want uint64
	}{
		{"flags", word(e.RBX), 0x24d},
		{"mem_lower", word(e.RBX + 4), 639},
		{"mem_upper", word(e.RBX + 8), 31 << 10},
		{"mods_count", word(e.RBX + 20), 1},
		{"mod_start", word(module), e.Initrd.Start},
		{"mod_end", word(module + 4), e.Initrd.End()},
		{"mmap_length", word(e.RBX + 44), 4 * 24},
	} {
		if f.got != f.want {
			t.Errorf("%s = %#x; want %#x", f.name, f.got, f.want)
		}
	}
	if got := text(word(e.RBX + 16)); got != "kernel.elf one two" {
		t.Errorf("command line %q", got)
	}
	if name, words := text(word(e.RBX+64)), text(word(module+8)); name != "vmm" || words != "" {
		t.Errorf("loader %q, module's words %q", name, words)
	}
	var got []mapEntry
	for at := word(e.RBX + 48); len(got) < 4; at += word(at) + 4 {
		b := bytesAt(t, mem, at, 24)
		got = append(got, mapEntry{memory.Range{Start: le.Uint64(b[4:]), Size: le.Uint64(b[12:])}, le.Uint32(b[20:])})
	}
	if diff := cmp.Diff(memoryMap(mem), got, compareMap); diff != "" {
		t.Errorf("memory map (-want +got):\n%s", diff)
	}
}

// Headers that are none, or lie.
func TestMultibootRefused(t *testing.T) {
	flat := func(edit func(*multibootHeader)) []byte {
		h := flatHeader()
		edit(&h)
		return multibootAt(t, 64, h, bytes.Repeat([]byte{0xf4}, 4096))
	}
	wrong := flat(func(*multibootHeader) {})
	wrong[64+8]++
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"wrong sum", wrong, "not a Linux kernel"},
		{"unaligned", flat(func(*multibootHeader) {})[2:], "not a Linux kernel"},
		{"beyond 8 KiB", multibootAt(t, 8192-8, flatHeader(), make([]byte, 64)), "not a Linux kernel"},
		{"without addresses", flat(func(h *multibootHeader) { h.Flags = 0 }), "does not say where to load it"},
		{"asks for more", flat(func(h *multibootHeader) { h.Flags |= 1 << 5 }), "flags 0x20"},
		{"begins behind its header", flat(func(h *multibootHeader) { h.LoadAddr = h.HeaderAddr + 4 }), "make no sense"},
		{"begins before the file", flat(func(h *multibootHeader) { h.LoadAddr = 0x10_0000 - 4096 }), "make no sense"},
		{"ends behind the file", flat(func(h *multibootHeader) { h.LoadEndAddr = 1 << 31 }), "make no sense"},
		{"ends before it begins", flat(func(h *multibootHeader) { h.LoadEndAddr = 1 }), "make no sense"},
		{"zeros end before the rest", flat(func(h *multibootHeader) { h.BSSEndAddr = 1<<20 + 1 }), "make no sense"},
		{"entry outside", flat(func(h *multibootHeader) { h.EntryAddr = 2 << 20 }), "make no sense"},
		{"no RAM", flat(func(h *multibootHeader) { h.HeaderAddr, h.LoadAddr, h.EntryAddr = 0xb8040, 0xb8000, 0xb8060 }), "no RAM between 0x9fc00 and 1 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if img, err := Parse("kernel", bytes.NewReader(tt.file), int64(len(tt.file))); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %+v, %v; want an error with %q", img, err, tt.want)
			}
		})
	}
}
