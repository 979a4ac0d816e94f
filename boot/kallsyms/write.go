package kallsyms

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// WriteELF writes the symbols as an ELF file without code, for gdb and other
// tools to take names from: a symbol table, and a section that covers the
// kernel's addresses.
func (t *Table) WriteELF(w io.Writer) error {
	const text = 1 // section numbers: 0 is none
	var symbols, strings, names bytes.Buffer
	strings.WriteByte(0)
	put := func(b *bytes.Buffer, v any) { _ = binary.Write(b, le, v) } // to memory: no error
	put(&symbols, elf.Sym64{})
	var low, high uint64
	for s := range t.All() {
		sym := elf.Sym64{Name: uint32(strings.Len()), Info: elf.ST_INFO(elf.STB_GLOBAL, symbolType(s.Type)), Shndx: text, Value: s.Addr}
		if s.Addr < kernelHalf {
			sym.Shndx = uint16(elf.SHN_ABS) // an offset, of a per-CPU variable
		} else {
			if low == 0 {
				low = s.Addr
			}
			high = s.Addr
		}
		put(&symbols, sym)
		strings.WriteString(s.Name)
		strings.WriteByte(0)
	}

	names.WriteByte(0)
	name := func(s string) uint32 {
		at := names.Len()
		names.WriteString(s + "\x00")
		return uint32(at)
	}
	headerSize := uint64(binary.Size(elf.Header64{}))
	sections := []elf.Section64{
		{},
		{Name: name(".text"), Type: uint32(elf.SHT_NOBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR), Addr: low, Off: headerSize, Size: high - low + 1, Addralign: 1},
		{Name: name(".symtab"), Type: uint32(elf.SHT_SYMTAB), Link: 3, Info: 1, Addralign: 8, Entsize: elf.Sym64Size},
		{Name: name(".strtab"), Type: uint32(elf.SHT_STRTAB), Addralign: 1},
		{Name: name(".shstrtab"), Type: uint32(elf.SHT_STRTAB), Addralign: 1},
	}
	contents := []*bytes.Buffer{&symbols, &strings, &names}
	at := headerSize
	for i, b := range contents {
		s := &sections[2+i]
		s.Off, s.Size = at, uint64(b.Len())
		at += s.Size
	}
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: at, Ehsize: uint16(headerSize), Shentsize: uint16(binary.Size(elf.Section64{})),
		Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	if err := binary.Write(w, le, h); err != nil {
		return err
	}
	for _, b := range contents {
		if _, err := b.WriteTo(w); err != nil {
			return err
		}
	}
	return binary.Write(w, le, sections)
}

// symbolType is ELF's type of a symbol with nm's letter.
func symbolType(letter byte) elf.SymType {
	switch letter {
	case 't', 'T', 'w', 'W':
		return elf.STT_FUNC
	}
	return elf.STT_OBJECT
}
