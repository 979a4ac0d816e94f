package boot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"vmm/memory"
)

// Executable is an ELF kernel: what of the file the loader and Inspect need.
// Package debug/elf would read far more, section tables and all, and does not
// promise to survive hostile files; its constants and structures serve here.
type Executable struct {
	Class    elf.Class
	Machine  elf.Machine
	Type     elf.Type
	Entry    uint64 // as in the file header: a physical or a virtual address
	Segments []Segment
	Notes    []Note
	PVH      *uint32 // the physical address of the PVH entry; nil without one

	end int64 // of the ELF file; a kernel's relocation table may lie behind it
}

// Segment is a program header. Sizes are in bytes.
type Segment struct {
	Type              elf.ProgType
	Flags             elf.ProgFlag
	Offset            uint64 // in the file
	VAddr, PAddr      uint64
	FileSize, MemSize uint64
}

// loaded reports whether s occupies memory.
func (s Segment) loaded() bool { return s.Type == elf.PT_LOAD && s.MemSize > 0 }

// memory is the guest-physical memory that s occupies.
func (s Segment) memory() memory.Range { return memory.Range{Start: s.PAddr, Size: s.MemSize} }

// Note is an entry of a PT_NOTE segment.
type Note struct {
	Owner string
	Type  uint32 // its meaning is the owner's
	Desc  []byte
}

// Bounds on what is read. Linux has 5 segments and less than a page of notes.
const (
	maxSegments = 64
	maxNotes    = 64 << 10 // bytes
)

// Notes that say what a file is. Those of Xen are XEN_ELFNOTE_GUEST_OS and
// XEN_ELFNOTE_PHYS32_ENTRY of include/xen/interface/elfnote.h; GNU's is
// NT_GNU_ABI_TAG of <elf.h>, which programs have.
const (
	ownerXen    = "Xen"
	noteGuestOS = 6
	notePVH     = 18

	ownerLinux = "Linux"

	ownerGNU = "GNU"
	noteABI  = 1
)

// parseELF reads the headers and notes of an ELF file for x86.
func parseELF(r io.ReaderAt, size int64) (*Executable, error) {
	exe := &Executable{}
	table, sections, err := exe.readHeader(r)
	if err != nil {
		return nil, err
	}
	switch {
	case table.count == 0:
		return nil, errors.New("an ELF file without segments, such as an object file, not a Linux kernel")
	case table.count > maxSegments:
		return nil, fmt.Errorf("an ELF file with %d segments, and no kernel has more than %d", table.count, maxSegments)
	}
	exe.end = max(sections.end(), table.end())
	for i := range table.count {
		s, err := parseSegment(r, exe.Class, int64(table.offset)+int64(i)*int64(table.entrySize))
		if err != nil {
			return nil, fmt.Errorf("ELF segment %d: %w", i, err)
		}
		exe.Segments = append(exe.Segments, s)
		if s.FileSize == 0 {
			continue // where it would be does not matter, if it is anywhere
		}
		if s.Offset > uint64(size) || s.FileSize > uint64(size)-s.Offset {
			return nil, fmt.Errorf("truncated: ELF segment %d has %d bytes at %d and the file ends at %d", i, s.FileSize, s.Offset, size)
		}
		exe.end = max(exe.end, int64(s.Offset+s.FileSize))
	}
	for _, s := range exe.Segments {
		if s.Type == elf.PT_NOTE {
			if err := exe.readNotes(r, s); err != nil {
				return nil, fmt.Errorf("ELF notes: %w", err)
			}
		}
	}
	return exe, nil
}

// checkKernel refuses what cannot be loaded, or entered.
func (exe *Executable) checkKernel() error {
	if err := exe.checkSegments(); err != nil {
		return err
	}
	return exe.checkEntry()
}

// headerTable is where the program or section headers lie in a file.
type headerTable struct {
	offset           uint64
	entrySize, count uint16
}

// end is the offset behind the table, or a negative number where that is none
// a file has.
func (t headerTable) end() int64 {
	return int64(t.offset) + int64(t.entrySize)*int64(t.count)
}

// readHeader reads the file header: where the headers of segments and sections
// lie.
func (exe *Executable) readHeader(r io.ReaderAt) (segments, sections headerTable, err error) {
	var ident [elf.EI_NIDENT]byte
	if err := readStruct(r, 0, &ident); err != nil {
		return segments, sections, err
	}
	if elf.Data(ident[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return segments, sections, errors.New("a big-endian ELF file, and this is an x86-64 machine")
	}
	exe.Class = elf.Class(ident[elf.EI_CLASS])
	switch exe.Class {
	case elf.ELFCLASS64:
		var h elf.Header64
		if err := readStruct(r, 0, &h); err != nil {
			return segments, sections, err
		}
		exe.Machine, exe.Type, exe.Entry = elf.Machine(h.Machine), elf.Type(h.Type), h.Entry
		segments = headerTable{h.Phoff, h.Phentsize, h.Phnum}
		sections = headerTable{h.Shoff, h.Shentsize, h.Shnum}
	case elf.ELFCLASS32:
		var h elf.Header32
		if err := readStruct(r, 0, &h); err != nil {
			return segments, sections, err
		}
		exe.Machine, exe.Type, exe.Entry = elf.Machine(h.Machine), elf.Type(h.Type), uint64(h.Entry)
		segments = headerTable{uint64(h.Phoff), h.Phentsize, h.Phnum}
		sections = headerTable{uint64(h.Shoff), h.Shentsize, h.Shnum}
	default:
		return segments, sections, fmt.Errorf("an ELF file of unknown class %d", ident[elf.EI_CLASS])
	}
	if exe.Machine != elf.EM_X86_64 && exe.Machine != elf.EM_386 {
		return segments, sections, fmt.Errorf("an ELF file for %v, and this is an x86-64 machine", exe.Machine)
	}
	return segments, sections, nil
}

func parseSegment(r io.ReaderAt, class elf.Class, off int64) (Segment, error) {
	if class == elf.ELFCLASS64 {
		var p elf.Prog64
		err := readStruct(r, off, &p)
		return Segment{elf.ProgType(p.Type), elf.ProgFlag(p.Flags), p.Off, p.Vaddr, p.Paddr, p.Filesz, p.Memsz}, err
	}
	var p elf.Prog32
	err := readStruct(r, off, &p)
	return Segment{elf.ProgType(p.Type), elf.ProgFlag(p.Flags),
		uint64(p.Off), uint64(p.Vaddr), uint64(p.Paddr), uint64(p.Filesz), uint64(p.Memsz)}, err
}

// readStruct decodes a little-endian structure at an offset of the file.
func readStruct(r io.ReaderAt, off int64, v any) error {
	if off < 0 {
		return errors.New("truncated")
	}
	buf := make([]byte, binary.Size(v))
	if _, err := r.ReadAt(buf, off); err != nil {
		if err == io.EOF {
			err = errors.New("truncated")
		}
		return err
	}
	_, err := binary.Decode(buf, le, v)
	return err
}

// readNotes adds the notes of a segment. System V gABI, chapter 5, "Note
// Section": name and descriptor are each padded to 4 bytes.
func (exe *Executable) readNotes(r io.ReaderAt, s Segment) error {
	if s.FileSize > maxNotes {
		return fmt.Errorf("%d bytes of them, and no kernel has more than %d", s.FileSize, maxNotes)
	}
	buf := make([]byte, s.FileSize)
	if _, err := io.ReadFull(io.NewSectionReader(r, int64(s.Offset), int64(s.FileSize)), buf); err != nil {
		return err
	}
	for len(buf) >= 12 {
		namesz, descsz, kind := uint64(le.Uint32(buf)), uint64(le.Uint32(buf[4:])), le.Uint32(buf[8:])
		buf = buf[12:]
		name, desc := (namesz+3)&^3, (descsz+3)&^3
		if name > uint64(len(buf)) || desc > uint64(len(buf))-name {
			return errors.New("one reaches past the end of its segment")
		}
		n := Note{Type: kind, Desc: buf[name : name+descsz]}
		if namesz > 0 {
			n.Owner = string(buf[:namesz-1]) // without the final NUL
		}
		exe.Notes = append(exe.Notes, n)
		if n.Owner == ownerXen && n.Type == notePVH && len(n.Desc) >= 4 {
			entry := le.Uint32(n.Desc)
			exe.PVH = &entry
		}
		buf = buf[name+desc:]
	}
	return nil
}

// Where linkers put a program that is not told where to be: GNU ld and Go's, and
// LLVM's.
const (
	programBase     = 0x40_0000
	programBaseLLVM = 0x20_0000
)

// isProgram guesses whether the file is meant to run on an operating system: it
// asks for a dynamic linker, says which system it was made for, or lies where
// linkers put programs. A kernel has a PVH entry, or lies elsewhere in virtual
// than in physical memory.
func (exe *Executable) isProgram() bool {
	var lowest *Segment
	kernel := exe.PVH != nil
	for i, s := range exe.Segments {
		if s.Type == elf.PT_INTERP {
			return true
		}
		if s.loaded() {
			kernel = kernel || s.VAddr != s.PAddr
			if lowest == nil || s.VAddr < lowest.VAddr {
				lowest = &exe.Segments[i]
			}
		}
	}
	atBase := lowest != nil && (lowest.VAddr == programBase || lowest.VAddr == programBaseLLVM)
	return !kernel && (atBase || exe.Type == elf.ET_DYN || exe.hasNote(ownerGNU, noteABI))
}

// isLinux reports whether the file says that it is a Linux kernel: by a note of
// Linux's own, or by what it tells Xen.
func (exe *Executable) isLinux() bool {
	return slices.ContainsFunc(exe.Notes, func(n Note) bool {
		return n.Owner == ownerLinux || n.Owner == ownerXen && n.Type == noteGuestOS && n.text() == "linux"
	})
}

func (exe *Executable) hasNote(owner string, kind uint32) bool {
	return slices.ContainsFunc(exe.Notes, func(n Note) bool { return n.Owner == owner && n.Type == kind })
}

// checkSegments refuses what cannot be loaded whatever the protocol.
func (exe *Executable) checkSegments() error {
	var loaded []Segment
	for i, s := range exe.Segments {
		if !s.loaded() {
			continue
		}
		r := s.memory()
		switch {
		case s.FileSize > s.MemSize || r.End() < r.Start:
			return fmt.Errorf("ELF segment %d: %d bytes in the file, %d in memory at %#x: the file is damaged", i, s.FileSize, s.MemSize, s.PAddr)
		case r.Overlaps(memory.Range{Start: lowMemoryEnd, Size: highMemory - lowMemoryEnd}):
			return fmt.Errorf("ELF segment %d lies at %#x to %#x, and a PC has no RAM between %#x and 1 MiB; link it elsewhere", i, r.Start, r.End(), uint64(lowMemoryEnd))
		}
		for _, o := range loaded {
			if r.Overlaps(o.memory()) {
				return fmt.Errorf("ELF segment %d overlaps another in memory, at %#x: the file is damaged", i, max(r.Start, o.PAddr))
			}
		}
		loaded = append(loaded, s)
	}
	if len(loaded) == 0 {
		return errors.New("an ELF file with nothing to load, not a kernel")
	}
	return nil
}

// checkEntry refuses a Linux kernel that has no entry.
func (exe *Executable) checkEntry() error {
	switch {
	case exe.PVH == nil && exe.Class != elf.ELFCLASS64:
		return errors.New("a 32-bit ELF file without a PVH entry (a Xen note of type 18): there is no protocol to enter it by; give the bzImage")
	case exe.PVH != nil && !slices.ContainsFunc(exe.Segments, func(s Segment) bool { return s.loaded() && s.memory().Contains(uint64(*exe.PVH), 1) }):
		return fmt.Errorf("its PVH entry %#x is in none of its segments: the file is damaged", *exe.PVH)
	}
	return nil
}

// physicalEntry is the address of the entry point, which an ELF header may
// give as a virtual one, and whether it is in a segment at all.
func (exe *Executable) physicalEntry() (uint64, bool) {
	for _, s := range exe.Segments {
		if s.loaded() && s.memory().Contains(exe.Entry, 1) {
			return exe.Entry, true
		}
	}
	for _, s := range exe.Segments {
		if s.loaded() && exe.Entry >= s.VAddr && exe.Entry-s.VAddr < s.MemSize {
			return s.PAddr + (exe.Entry - s.VAddr), true
		}
	}
	return 0, false
}
