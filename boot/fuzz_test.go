package boot

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"testing"

	"vmm/memory"
)

// FuzzParse reads a hostile kernel and loads it by each protocol. What Load
// accepts lies where it belongs.
func FuzzParse(f *testing.F) {
	f.Add(bzImage(f, modernHeader(), []byte("payload")))
	h := modernHeader()
	h.RelocatableKernel, h.XLoadFlags, h.Version = 0, 0, 0x206
	f.Add(bzImage(f, h, nil))
	f.Add(vmlinux(f))
	f.Add(relocatable(f))
	f.Add(bzImage(f, modernHeader(), relocatable(f)))
	f.Add(multibootAt(f, 64, flatHeader(), make([]byte, 64)))
	f.Add(elf32(f, elf.ELFCLASS32, multibootAt(f, 0, multibootHeader{Flags: 3}, make([]byte, 64))))
	f.Add(elf32(f, elf.ELFCLASS64, multibootAt(f, 8, flatHeader(), make([]byte, 64))))
	f.Add(elfFile(f, elf.ELFCLASS32, elf.EM_386, 16<<20,
		segment{kind: elf.PT_LOAD, vaddr: 1 << 20, paddr: 1 << 20, data: make([]byte, 64)}, pvhNote(1<<20)))
	f.Fuzz(func(t *testing.T, file []byte) {
		img, err := Parse("kernel", bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		if _, err := img.Inspect().WriteTo(io.Discard); err != nil {
			t.Error(err)
		}
		for _, p := range []Protocol{Auto, Direct, Linux64, Linux32, PVH, Multiboot} {
			mem, err := memory.New(memory.Layout(24<<20), memory.Options{})
			if err != nil {
				t.Fatal(err)
			}
			e, err := start(img, mem, Params{Protocol: p, Cmdline: "quiet", Initrd: initrd(5000)})
			if err == nil {
				checkEntry(t, mem, e)
			}
			if err := mem.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func checkEntry(t *testing.T, mem *memory.Guest, e Entry) {
	t.Helper()
	ram := lowRAM(mem)
	if r := e.Initrd; r.Size == 0 || !ram.Contains(r.Start, r.Size) {
		t.Errorf("the initrd %+v is not in RAM above 1 MiB", r)
	}
	if r := e.Kernel; r.Size == 0 || r.End() < r.Start || r.End() > ram.End() { // it may begin below 1 MiB
		t.Errorf("the kernel %+v is not in RAM", r)
	}
	if e.Kernel.Overlaps(e.Initrd) {
		t.Errorf("kernel %+v overlaps initrd %+v", e.Kernel, e.Initrd)
	}
	if e.Protocol == Auto || (e.Mode == LongMode) != (e.Protocol == Linux64 || e.Protocol == Direct) || (e.RBX != 0) != (e.Protocol == PVH || e.Protocol == Multiboot) {
		t.Errorf("entry %+v does not fit its protocol", e)
	}
	if e.Protocol != Linux64 && !e.Kernel.Contains(e.RIP, 1) {
		t.Errorf("entry %#x is not in the kernel %+v", e.RIP, e.Kernel)
	}
}

// FuzzPayload unpacks hostile data, which begins like each compression.
func FuzzPayload(f *testing.F) {
	for c := range compressors {
		data, err := os.ReadFile(filepath.Join("testdata", "vmlinux."+c.String()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := Parse("kernel", bytes.NewReader(bzImage(t, modernHeader(), data)), int64(2048+len(data)))
		if err != nil {
			t.Fatal(err)
		}
		vmlinux, err := img.Vmlinux()
		if err != nil {
			return
		}
		p, err := img.Payload()
		if err != nil || len(vmlinux) != int(p.Unpacked) {
			t.Errorf("%d bytes of %+v, %v", len(vmlinux), p, err)
		}
	})
}

// FuzzRelocations applies hostile relocation tables. What is moved and moved back
// is what it was, unless places overlap: then a carry goes from one to the other.
func FuzzRelocations(f *testing.F) {
	f.Add(table([]uint32{low(0), low(8)}, []uint32{low(16)}, []uint32{low(20)}), uint64(1<<21))
	f.Add(table(nil, nil, []uint32{low(0), low(4093)}), uint64(1<<29))
	f.Add(make([]byte, 12), uint64(1))
	f.Fuzz(func(t *testing.T, table []byte, slide uint64) {
		r, err := parseRelocations(table)
		if err != nil {
			return
		}
		image := bytes.Repeat([]byte("text"), 1024)
		if err := r.apply(image, kernelMap+16<<20, slide); err != nil {
			return
		}
		if err := r.apply(image, kernelMap+16<<20, -slide); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(image, bytes.Repeat([]byte("text"), 1024)) && !r.overlap() {
			t.Error("moved back, the kernel is another")
		}
	})
}

// overlap reports whether two entries are for the same byte.
func (r relocations) overlap() bool {
	taken := map[uint64]bool{}
	for _, group := range []struct {
		entries []byte
		size    uint64
	}{{r.abs64, 8}, {r.neg32, 4}, {r.abs32, 4}} {
		for at := 0; at < len(group.entries); at += 4 {
			for b := range group.size {
				byteAt := place(group.entries[at:]) + b
				if taken[byteAt] {
					return true
				}
				taken[byteAt] = true
			}
		}
	}
	return false
}
