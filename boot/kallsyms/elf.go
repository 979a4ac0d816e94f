package kallsyms

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

var errNoSymtab = errors.New("the ELF file has no symbol table")

// FromELF reads the symbols of a vmlinux, of size bytes, that still has the
// symbol table that the linker made: one that comes out of a bzImage has not.
func FromELF(r io.ReaderAt, size int64) (*Table, error) {
	var h elf.Header64
	if err := read(r, 0, &h); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(h.Ident[:], []byte(elf.ELFMAG)) || elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		int(h.Shentsize) != binary.Size(elf.Section64{}) {
		return nil, errNoSymtab
	}
	sections := make([]elf.Section64, h.Shnum)
	if err := read(r, h.Shoff, sections); err != nil {
		return nil, err
	}
	for _, s := range sections {
		if elf.SectionType(s.Type) == elf.SHT_SYMTAB && s.Link < uint32(len(sections)) {
			return symtab(r, size, s, sections[s.Link])
		}
	}
	return nil, errNoSymtab
}

// Bounds on a symbol table. That of a vmlinux with debugging information has
// 20 MiB; names of C++ may be long, and longer ones are left out.
const (
	maxSymtab  = 64 << 20 // bytes: of symbols, of their strings, and of all names
	maxELFName = 4096     // bytes, with the zero
)

func symtab(r io.ReaderAt, size int64, symbols, strings elf.Section64) (*Table, error) {
	if symbols.Size > uint64(size) || strings.Size > uint64(size) {
		return nil, errors.New("the ELF file's symbol table is larger than the file: it is damaged")
	}
	if symbols.Size > maxSymtab || strings.Size > maxSymtab {
		return nil, fmt.Errorf("the ELF file's symbol table is larger than %d MiB", maxSymtab>>20)
	}
	syms := make([]elf.Sym64, symbols.Size/elf.Sym64Size)
	if err := read(r, symbols.Off, syms); err != nil {
		return nil, err
	}
	text := make([]byte, strings.Size)
	if err := read(r, strings.Off, text); err != nil {
		return nil, err
	}
	var all list
	sum := 0 // of the names' lengths: many may share their text
	for _, s := range syms {
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_FUNC, elf.STT_OBJECT, elf.STT_NOTYPE:
		default:
			continue
		}
		if s.Name >= uint32(len(text)) || elf.SectionIndex(s.Shndx) == elf.SHN_UNDEF {
			continue
		}
		name, _, whole := bytes.Cut(text[s.Name:min(int(s.Name)+maxELFName, len(text))], []byte{0})
		if len(name) == 0 || !whole {
			continue
		}
		if sum += len(name); sum > maxSymtab {
			return nil, fmt.Errorf("the ELF file's symbols have names of more than %d MiB", maxSymtab>>20)
		}
		all = append(all, Symbol{s.Value, letter(s), string(name)})
	}
	if len(all) == 0 {
		return nil, errNoSymtab
	}
	slices.SortStableFunc(all, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	t := &Table{names: all}
	for _, s := range all {
		t.addrs = append(t.addrs, s.Addr)
	}
	return t, nil
}

// letter is the type of a symbol, as far as its own entry tells.
func letter(s elf.Sym64) byte {
	kind := byte('d')
	switch {
	case elf.SectionIndex(s.Shndx) == elf.SHN_ABS:
		kind = 'a'
	case elf.ST_TYPE(s.Info) == elf.STT_FUNC:
		kind = 't'
	}
	if elf.ST_BIND(s.Info) == elf.STB_GLOBAL {
		kind -= 'a' - 'A'
	}
	return kind
}

// list are names that are stored as they are.
type list []Symbol

func (l list) name(i int) (byte, string) { return l[i].Type, l[i].Name }

func (l list) find(name string) int {
	return slices.IndexFunc(l, func(s Symbol) bool { return s.Name == name })
}

// read decodes a little-endian structure, or a slice of them.
func read(r io.ReaderAt, off uint64, v any) error {
	if off > 1<<62 {
		return io.ErrUnexpectedEOF
	}
	err := binary.Read(io.NewSectionReader(r, int64(off), 1<<62), le, v)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
