package kallsyms

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every layout since Linux 5.4 is read as it was written.
func TestLayouts(t *testing.T) {
	for _, l := range layouts {
		for _, n := range []int{600, 1024, 5000} {
			symbols := testSymbols(n, l)

			table, err := Find(context.Background(), build(symbols, l), testBase)

			if err != nil {
				t.Errorf("%s, %d symbols: %v", l.version, n, err)
				continue
			}
			if diff := cmp.Diff(symbols, slices.Collect(table.All())); diff != "" {
				t.Errorf("%s, %d symbols, without what is - and with what is +:\n%s", l.version, n, diff)
			}
		}
	}
}

func TestTable(t *testing.T) {
	symbols := testSymbols(2000, layouts[0])
	table, err := Find(context.Background(), build(symbols, layouts[0]), testBase)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if addr, ok := table.Lookup(s.Name); !ok || addr != s.Addr {
			t.Errorf("Lookup(%s) = %#x, %v; want %#x", s.Name, addr, ok, s.Addr)
		}
	}
	if _, ok := table.Lookup("do_1_initcall"); ok {
		t.Error("the beginning of a name is found")
	}
	first := slices.IndexFunc(symbols, func(s Symbol) bool { return s.Addr == symbols[1111].Addr })
	if s, off, ok := table.At(symbols[1111].Addr + 5); !ok || off != 5 || s != symbols[first] {
		t.Errorf("At = %v+%d, %v; want %v+5", s, off, ok, symbols[first])
	}
	if s, _, ok := table.At(1<<64 - 1); !ok || s.Name != symbols[1999].Name {
		t.Errorf("At the end = %v, %v", s, ok)
	}
	table.Slide(0x1000)
	if addr, _ := table.Lookup(symbols[1111].Name); addr != symbols[1111].Addr+0x1000 {
		t.Errorf("after Slide: %#x; want %#x", addr, symbols[1111].Addr+0x1000)
	}
	if addr, _ := table.Lookup("percpu_3"); addr != 3*64 {
		t.Errorf("Slide moves a per-CPU variable to %#x", addr)
	}
}

// A kernel that was relocated says itself where it is; one from 7.0 on is where
// it is found.
func TestRelocated(t *testing.T) {
	const slide = 0x1e00_0000
	for _, l := range layouts {
		symbols := testSymbols(600, l)
		image := build(symbols, l)
		base := uint64(testBase)
		if l.meaning == placeRelative {
			base += slide
		}
		// What the kernel's own relocation does: each word of 64 bits that is
		// an address.
		for at := 0; at+8 <= len(image); at += 8 {
			if v := le.Uint64(image[at:]); v >= testBase && v < testBase+1<<30 {
				le.PutUint64(image[at:], v+slide)
			}
		}
		table, err := Find(context.Background(), image, base)
		if err != nil {
			t.Errorf("%s: %v", l.version, err)
			continue
		}
		if addr, ok := table.Lookup(symbols[599].Name); !ok || addr != symbols[599].Addr+slide {
			t.Errorf("%s: %#x, %v; want %#x", l.version, addr, ok, symbols[599].Addr+slide)
		}
	}
}

// Damage is an error or other symbols, and nothing worse.
func TestDamaged(t *testing.T) {
	for _, l := range layouts {
		image := build(testSymbols(600, l), l)
		for n := 0; n < len(image); n += 997 {
			use(Find(context.Background(), image[:n], testBase))
		}
		for at := 4096; at < len(image); at += 211 {
			damaged := slices.Clone(image)
			damaged[at] ^= 0xff
			use(Find(context.Background(), damaged, testBase))
		}
	}
	if _, err := Find(context.Background(), nil, testBase); err == nil {
		t.Error("nothing has symbols")
	}
	if _, err := Find(context.Background(), make([]byte, 1<<20), testBase); err == nil {
		t.Error("zeros have symbols")
	}
}

// use does what callers do with a table.
func use(t *Table, err error) {
	if err != nil {
		return
	}
	for s := range t.All() {
		t.At(s.Addr)
	}
	t.Lookup("start_kernel")
}

func FuzzFind(f *testing.F) {
	for _, l := range layouts {
		f.Add(build(testSymbols(600, l), l))
	}
	f.Fuzz(func(t *testing.T, image []byte) { use(Find(context.Background(), image, testBase)) })
}

// elfFile is a vmlinux with a symbol table, and nothing else.
func elfFile(symbols []Symbol) []byte {
	var text = []byte{0}
	syms := []elf.Sym64{{}}
	for _, s := range symbols {
		syms = append(syms, elf.Sym64{Name: uint32(len(text)), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1, Value: s.Addr})
		text = append(append(text, s.Name...), 0)
	}
	sections := []elf.Section64{{},
		{Type: uint32(elf.SHT_SYMTAB), Link: 2, Off: 1024, Size: uint64(len(syms) * elf.Sym64Size)},
		{Type: uint32(elf.SHT_STRTAB), Off: 1024 + uint64(len(syms)*elf.Sym64Size), Size: uint64(len(text))},
	}
	h := elf.Header64{Shoff: 64, Shentsize: 64, Shnum: uint16(len(sections))}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	var b bytes.Buffer
	for _, v := range []any{h, sections, make([]byte, 1024-64-64*len(sections)), syms, text} {
		_ = binary.Write(&b, le, v) // to memory
	}
	return b.Bytes()
}

func fromELF(file []byte) (*Table, error) { return FromELF(bytes.NewReader(file), int64(len(file))) }

func TestFromELF(t *testing.T) {
	symbols := []Symbol{{testBase + 64, 'T', "start_kernel"}, {testBase, 'T', "_text"}}

	table, err := fromELF(elfFile(symbols))

	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(symbols)
	if diff := cmp.Diff(symbols, slices.Collect(table.All())); diff != "" {
		t.Error(diff)
	}
	if addr, ok := table.Lookup("start_kernel"); !ok || addr != testBase+64 {
		t.Errorf("Lookup = %#x, %v", addr, ok)
	}
	if _, err := fromELF(elfFile(nil)); err == nil {
		t.Error("an empty symbol table is accepted")
	}
}

func FuzzFromELF(f *testing.F) {
	f.Add(elfFile([]Symbol{{testBase, 'T', "_text"}}))
	f.Fuzz(func(t *testing.T, file []byte) { use(fromELF(file)) })
}
