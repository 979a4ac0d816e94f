package boot

import (
	"bytes"
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"vmm/memory"
)

// Kernels with a segment where vmm puts what it tells them are told elsewhere:
// nothing lies upon anything, and the kernel is all there.
func TestRoom(t *testing.T) {
	const size = 8 << 20
	tests := []struct {
		name string
		low  memory.Range
	}{
		{"none below 1 MiB", memory.Range{Start: 1 << 20, Size: 64}},
		{"interrupt vectors and BIOS data", memory.Range{Start: 0, Size: 0x1000}},
		{"boot sector", memory.Range{Start: 0x7c00, Size: 512}},
		{"GDT", memory.Range{Start: 0x1000, Size: 64}},
		{"start information", memory.Range{Start: 0x6fff, Size: 1}},
		{"stack, page tables", memory.Range{Start: 0x8000, Size: 0x4000}},
		{"command line", memory.Range{Start: 0x2_0000, Size: 0x1000}},
		{"most of it", memory.Range{Start: 0x1000, Size: 0x8_0000}},
		{"the end of it", memory.Range{Start: 0x8_0000, Size: lowMemoryEnd - 0x8_0000}},
		{"all of it", memory.Range{Start: 0, Size: lowMemoryEnd}},
	}
	for _, tt := range tests {
		data := bytes.Repeat([]byte{0xa5}, int(tt.low.Size))
		low := segment{kind: elf.PT_LOAD, vaddr: tt.low.Start, paddr: tt.low.Start, data: data}
		high := segment{kind: elf.PT_LOAD, vaddr: 2 << 20, paddr: 2 << 20, data: make([]byte, 64)}
		header := segment{kind: elf.PT_LOAD, vaddr: 3 << 20, paddr: 3 << 20, data: multibootAt(t, 0, multibootHeader{}, make([]byte, 32))}
		for protocol, file := range map[Protocol][]byte{
			Linux64:   elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 2<<20, low, high),
			PVH:       elfFile(t, elf.ELFCLASS32, elf.EM_386, 2<<20, low, high, pvhNote(2<<20)),
			Multiboot: elfFile(t, elf.ELFCLASS32, elf.EM_386, 3<<20+32, header, low),
		} {
			t.Run(tt.name+" "+protocol.String(), func(t *testing.T) {
				mem := newGuest(t, size)
				e, err := start(parse(t, file), mem, Params{Protocol: protocol, Cmdline: "quiet", Initrd: initrd(5000)})
				if err != nil {
					t.Fatal(err)
				}
				if got := bytesAt(t, mem, tt.low.Start, len(data)); !bytes.Equal(got, data) {
					t.Error("the kernel's segment is not as in the file")
				}
				parts := []memory.Range{tt.low, e.Initrd, {Start: lowMemoryEnd, Size: highMemory - lowMemoryEnd}}
				for _, p := range e.Told {
					for _, o := range parts {
						if p.Overlaps(o) {
							t.Errorf("the %s at %#x lies upon %#x", p.Name, p.Start, o.Start)
						}
					}
					parts = append(parts, p.Range)
				}
				if gdt, err := mem.Uint64(e.GDT.Base + uint64(e.CS)); err != nil || gdt == 0 {
					t.Errorf("no code segment: %#x, %v", gdt, err)
				}
				if e.Mode == LongMode {
					if pte := walk(t, mem, e.CR3, e.RIP); pte&^0xfff != e.RIP&^(2<<20-1) {
						t.Errorf("the entry is not mapped: %#x", pte)
					}
				}
			})
		}
	}
}

// The BIOS data area says where the extended one is, and how much memory there is
// below it.
func TestBIOSData(t *testing.T) {
	mem := newGuest(t, 32<<20)
	if _, err := start(parse(t, vmlinux(t)), mem, Params{}); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[uint64]uint16{
		0x400: 0x3f8, 0x40e: 0x9fc0, 0x410: 1<<9 | 1<<1, 0x413: 639, 0x472: 0, 0x9fc00: 1,
	} {
		if got, err := mem.Uint16(at); got != want || err != nil {
			t.Errorf("%#x holds %#x, %v; want %#x", at, got, err, want)
		}
	}
}

// An empty segment need not be anywhere in the file: Unikraft's PT_TLS is behind
// its end.
func TestEmptySegment(t *testing.T) {
	file := elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 2<<20,
		segment{kind: elf.PT_LOAD, vaddr: 2<<20 | kernelBase, paddr: 2 << 20, data: make([]byte, 64)},
		segment{kind: elf.PT_TLS, vaddr: 2 << 20, paddr: 2 << 20},
		segment{kind: elf.PT_LOAD, vaddr: 3<<20 | kernelBase, paddr: 3 << 20, memSize: 4096})
	for _, header := range []int{1, 2} {
		le.PutUint64(file[64+56*header+8:], 1<<40) // p_offset
	}
	e, err := start(parse(t, file), newGuest(t, 32<<20), Params{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (memory.Range{Start: 2 << 20, Size: 1<<20 + 4096}); e.Kernel != want {
		t.Errorf("kernel at %+v; want %+v", e.Kernel, want)
	}
}

// What lies behind an ELF file that is not known as Linux's is no relocation
// table.
func TestNoKASLRForOthers(t *testing.T) {
	file := append(vmlinux(t), "sections, or anything"...)
	e, err := start(parse(t, file), newGuest(t, 64<<20), Params{Protocol: Linux64})
	if err != nil || e.Offset != 0 || e.Slide != 0 {
		t.Errorf("Load = %+v, %v; want it as linked", e, err)
	}
	_, err = start(parse(t, file), newGuest(t, 64<<20), Params{Protocol: Linux64, KASLR: KASLROn})
	if err == nil {
		t.Error("random addresses for a kernel that is not known as Linux's")
	}
}

// Modules follow the initrd in the lists of Multiboot and PVH, with their words, and
// are in memory as they are in their files.
func TestModules(t *testing.T) {
	modules := func() []Module {
		dom0, ramdisk := initrd(9000), initrd(100)
		dom0.Data = bytes.NewReader(bytes.Repeat([]byte{0x5a}, 9000))
		return []Module{{Initrd: *dom0, Args: "console=hvc0"}, {Initrd: *ramdisk}}
	}
	type module struct {
		start, end uint64
		args       string
	}
	text := func(mem *memory.Guest, at uint64) string {
		if at == 0 {
			return ""
		}
		s, _, _ := bytes.Cut(bytesAt(t, mem, at, 64), []byte{0})
		return string(s)
	}
	word := func(mem *memory.Guest, at uint64) uint64 { return uint64(le.Uint32(bytesAt(t, mem, at, 4))) }
	lists := map[Protocol]func(mem *memory.Guest, e Entry) []module{
		Multiboot: func(mem *memory.Guest, e Entry) (all []module) {
			for i := range word(mem, e.RBX+20) {
				at := word(mem, e.RBX+24) + 16*i
				all = append(all, module{word(mem, at), word(mem, at+4), text(mem, word(mem, at+8))})
			}
			return all
		},
		PVH: func(mem *memory.Guest, e Entry) (all []module) {
			for i := range word(mem, e.RBX+12) {
				at := word(mem, e.RBX+16) + 32*i
				all = append(all, module{word(mem, at), word(mem, at) + word(mem, at+8), text(mem, word(mem, at+16))})
			}
			return all
		},
	}
	file := elfFile(t, elf.ELFCLASS32, elf.EM_386, 2<<20+32, pvhNote(2<<20),
		segment{kind: elf.PT_LOAD, vaddr: 2 << 20, paddr: 2 << 20, data: multibootAt(t, 0, multibootHeader{}, make([]byte, 64))})
	const size = 16 << 20
	for protocol, list := range lists {
		for _, first := range []*Initrd{nil, initrd(5000)} {
			mem := newGuest(t, size)
			e, err := start(parse(t, file), mem, Params{Protocol: protocol, Initrd: first, Modules: modules()})
			if err != nil {
				t.Fatal(err)
			}
			want := []module{{size - 12<<10, size - 12<<10 + 9000, "console=hvc0"}, {size - 16<<10, size - 16<<10 + 100, ""}}
			if first != nil {
				for i := range want {
					want[i].start, want[i].end = want[i].start-8<<10, want[i].end-8<<10
				}
				want = append([]module{{size - 8<<10, size - 8<<10 + 5000, ""}}, want...)
			}
			if got := list(mem, e); !slices.Equal(got, want) {
				t.Errorf("%v: %+v; want %+v", protocol, got, want)
			}
			if b := bytesAt(t, mem, e.Modules[0].Start, 9000); b[0] != 0x5a || b[8999] != 0x5a {
				t.Errorf("%v: the module is not in memory", protocol)
			}
		}
		wordy := modules()
		wordy[0].Args = strings.Repeat("x", startInfoEnd-startInfoAddr)
		if _, err := start(parse(t, file), newGuest(t, size), Params{Protocol: protocol, Modules: wordy}); err == nil || !strings.Contains(err.Error(), "give fewer") {
			t.Errorf("%v: words without room: %v", protocol, err)
		}
	}
	if _, err := start(parse(t, vmlinux(t)), newGuest(t, 64<<20), Params{Protocol: Linux64, Modules: modules()}); err == nil || !strings.Contains(err.Error(), "knows of no modules") {
		t.Errorf("modules for linux64: %v", err)
	}
	huge := modules()
	huge[0].Size = size
	if _, err := start(parse(t, file), newGuest(t, size), Params{Protocol: PVH, Modules: huge}); err == nil || !strings.Contains(err.Error(), "module initrd.img: 16777216 bytes do not fit") {
		t.Errorf("a module without room: %v", err)
	}
}
