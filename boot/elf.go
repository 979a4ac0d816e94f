package boot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Executable is an ELF kernel: what of the file the loader and a reader of
// "vmm inspect" need. Package debug/elf would read far more, section tables
// and all, and does not promise to survive hostile files; its constants and
// structures serve here.
type Executable struct {
	Class    elf.Class   `json:"class"`
	Machine  elf.Machine `json:"machine"`
	Type     elf.Type    `json:"type"`
	Entry    uint64      `json:"entry"`
	Segments []Segment   `json:"segments"`
	Notes    []Note      `json:"notes"`
	// PVH is the physical address of the PVH entry, nil without one.
	PVH *uint32 `json:"pvh_entry,omitempty"`
}

// Segment is a program header. Sizes are in bytes.
type Segment struct {
	Type     elf.ProgType `json:"type"`
	Flags    elf.ProgFlag `json:"flags"`
	Offset   uint64       `json:"offset"`
	VAddr    uint64       `json:"vaddr"`
	PAddr    uint64       `json:"paddr"`
	FileSize uint64       `json:"filesz"`
	MemSize  uint64       `json:"memsz"`
}

// Note is an entry of a PT_NOTE segment.
type Note struct {
	Name string `json:"name"`
	Type uint32 `json:"type"`
	Desc []byte `json:"desc"`
}

// Bounds on what is read. Linux has 5 segments and a page of notes.
const (
	maxSegments = 64
	maxNotes    = 64 << 10 // bytes
)

// notePVH is XEN_ELFNOTE_PHYS32_ENTRY of include/xen/interface/elfnote.h.
const notePVH = 18

// parseELF reads the headers and notes of an ELF kernel for x86.
func parseELF(r io.ReaderAt, size int64) (*Executable, error) {
	exe, phoff, phentsize, phnum, err := parseELFHeader(r)
	if err != nil {
		return nil, err
	}
	switch {
	case phnum == 0:
		return nil, errors.New("an ELF file without segments, such as an object file, not a kernel")
	case phnum > maxSegments:
		return nil, fmt.Errorf("an ELF file with %d segments; no kernel has more than %d", phnum, maxSegments)
	}
	for i := range phnum {
		s, err := parseSegment(r, exe.Class, int64(phoff)+int64(i)*int64(phentsize))
		if err != nil {
			return nil, fmt.Errorf("ELF segment %d: %w", i, err)
		}
		if s.Type == elf.PT_INTERP || s.Type == elf.PT_DYNAMIC && exe.Type == elf.ET_EXEC {
			return nil, errors.New("an ELF program for an operating system, not a kernel")
		}
		if s.Offset > uint64(size) || s.FileSize > uint64(size)-s.Offset {
			return nil, fmt.Errorf("truncated: segment %d ends at byte %d and the file has %d", i, s.Offset+s.FileSize, size)
		}
		exe.Segments = append(exe.Segments, s)
	}
	for _, s := range exe.Segments {
		if s.Type == elf.PT_NOTE {
			if err := exe.readNotes(r, s); err != nil {
				return nil, err
			}
		}
	}
	if err := exe.check(); err != nil {
		return nil, err
	}
	return exe, nil
}

// parseELFHeader reads the file header. It returns where the program headers
// lie, the size of one, and how many there are.
func parseELFHeader(r io.ReaderAt) (exe *Executable, phoff uint64, phentsize, phnum uint16, err error) {
	fail := func(err error) (*Executable, uint64, uint16, uint16, error) { return nil, 0, 0, 0, err }
	var ident [elf.EI_NIDENT]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil {
		return fail(fmt.Errorf("truncated: %w", err))
	}
	if elf.Data(ident[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return fail(errors.New("a big-endian ELF file, and this is an x86-64 machine"))
	}
	exe = &Executable{Class: elf.Class(ident[elf.EI_CLASS])}
	switch exe.Class {
	case elf.ELFCLASS64:
		var h elf.Header64
		if err := readStruct(r, 0, &h); err != nil {
			return fail(err)
		}
		exe.Machine, exe.Type, exe.Entry = elf.Machine(h.Machine), elf.Type(h.Type), h.Entry
		phoff, phentsize, phnum = h.Phoff, h.Phentsize, h.Phnum
	case elf.ELFCLASS32:
		var h elf.Header32
		if err := readStruct(r, 0, &h); err != nil {
			return fail(err)
		}
		exe.Machine, exe.Type, exe.Entry = elf.Machine(h.Machine), elf.Type(h.Type), uint64(h.Entry)
		phoff, phentsize, phnum = uint64(h.Phoff), h.Phentsize, h.Phnum
	default:
		return fail(fmt.Errorf("an ELF file of unknown class %d", ident[elf.EI_CLASS]))
	}
	if exe.Machine != elf.EM_X86_64 && exe.Machine != elf.EM_386 {
		return fail(fmt.Errorf("an ELF file for %v, and this is an x86-64 machine", exe.Machine))
	}
	return exe, phoff, phentsize, phnum, nil
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
		return fmt.Errorf("truncated: %w", err)
	}
	_, err := binary.Decode(buf, le, v)
	return err
}

// readNotes adds the notes of a segment. ELF-64 Object File Format §8: name
// and descriptor are each padded to 4 bytes.
func (exe *Executable) readNotes(r io.ReaderAt, s Segment) error {
	if s.FileSize > maxNotes {
		return fmt.Errorf("an ELF file with %d bytes of notes; no kernel has more than %d", s.FileSize, maxNotes)
	}
	buf := make([]byte, s.FileSize)
	if _, err := r.ReadAt(buf, int64(s.Offset)); err != nil {
		return fmt.Errorf("ELF notes: %w", err)
	}
	for len(buf) >= 12 {
		namesz, descsz, kind := uint64(le.Uint32(buf)), uint64(le.Uint32(buf[4:])), le.Uint32(buf[8:])
		buf = buf[12:]
		name, desc := (namesz+3)&^3, (descsz+3)&^3
		if name > uint64(len(buf)) || desc > uint64(len(buf))-name {
			return errors.New("ELF notes: one reaches past the end of its segment")
		}
		n := Note{Type: kind, Desc: buf[name : name+descsz]}
		if namesz > 0 {
			n.Name = string(buf[:namesz-1]) // without the final NUL
		}
		exe.Notes = append(exe.Notes, n)
		if n.Name == "Xen" && n.Type == notePVH && len(n.Desc) >= 4 {
			entry := le.Uint32(n.Desc)
			exe.PVH = &entry
		}
		buf = buf[name+desc:]
	}
	return nil
}

// check refuses what can be told not to be a kernel from its headers alone.
func (exe *Executable) check() error {
	loads := 0
	for i, s := range exe.Segments {
		if s.Type != elf.PT_LOAD || s.MemSize == 0 {
			continue
		}
		loads++
		end := s.PAddr + s.MemSize
		if s.FileSize > s.MemSize || end < s.PAddr {
			return fmt.Errorf("ELF segment %d: %d bytes in the file, %d in memory at %#x: the file is damaged", i, s.FileSize, s.MemSize, s.PAddr)
		}
		for j, o := range exe.Segments[:i] {
			if o.Type == elf.PT_LOAD && s.PAddr < o.PAddr+o.MemSize && o.PAddr < end {
				return fmt.Errorf("ELF segments %d and %d overlap in memory", j, i)
			}
		}
		if s.PAddr < highMemory {
			return fmt.Errorf("ELF segment %d lies at %#x, below 1 MiB; this is a program, or a kernel that vmm cannot boot", i, s.PAddr)
		}
	}
	if loads == 0 {
		return errors.New("an ELF file with nothing to load, not a kernel")
	}
	if exe.PVH == nil && exe.Class != elf.ELFCLASS64 {
		return errors.New("a 32-bit ELF file without a PVH entry (a Xen note of type 18): vmm does not know how to enter it")
	}
	return nil
}

// physicalEntry is the address of the entry point, which an ELF header may
// give as a virtual one.
func (exe *Executable) physicalEntry() (uint64, bool) {
	for _, s := range exe.Segments {
		if s.Type == elf.PT_LOAD && exe.Entry >= s.PAddr && exe.Entry-s.PAddr < s.MemSize {
			return exe.Entry, true
		}
	}
	for _, s := range exe.Segments {
		if s.Type == elf.PT_LOAD && exe.Entry >= s.VAddr && exe.Entry-s.VAddr < s.MemSize {
			return s.PAddr + (exe.Entry - s.VAddr), true
		}
	}
	return 0, false
}
