// Package paging reads a guest's page tables as the processor does. Intel SDM
// vol. 3 chapter 4 (cited as "SDM") and AMD APM vol. 2 chapter 5 describe them.
package paging

import (
	"fmt"

	"vmm/memory"
)

// Mode is how linear addresses become physical ones. SDM §4.1.1.
type Mode uint8

// The modes.
const (
	Off    Mode = iota // linear addresses are physical
	Bits32             // two levels of 32-bit entries
	PAE                // three levels of 64-bit entries
	Level4
	Level5
)

func (m Mode) String() string {
	return [...]string{"no paging", "32-bit paging", "PAE paging", "4-level paging", "5-level paging"}[m]
}

// State are the registers that paging depends on.
type State struct {
	CR0, CR3, CR4, EFER uint64
}

// Bits of the registers. SDM §2.5, §2.2.1.
const (
	cr0PG   = 1 << 31
	cr4PSE  = 1 << 4
	cr4PAE  = 1 << 5
	cr4LA57 = 1 << 12
	eferLMA = 1 << 10
)

// Mode is the mode that the registers choose.
func (s State) Mode() Mode {
	switch {
	case s.CR0&cr0PG == 0:
		return Off
	case s.CR4&cr4PAE == 0:
		return Bits32
	case s.EFER&eferLMA == 0:
		return PAE
	case s.CR4&cr4LA57 != 0:
		return Level5
	}
	return Level4
}

// Flags are the bits of an entry. SDM tables 4-6, 4-14 to 4-20.
type Flags uint64

// The bits.
const (
	Present  Flags = 1 << 0
	Writable Flags = 1 << 1
	User     Flags = 1 << 2
	Accessed Flags = 1 << 5
	Dirty    Flags = 1 << 6
	Large    Flags = 1 << 7 // of a directory's entry: it maps a page
	Global   Flags = 1 << 8
	NoExec   Flags = 1 << 63
)

// String has a letter for each right, as ls(1) has.
func (f Flags) String() string {
	text := []byte("r-x----")
	for i, bit := range []struct {
		flag   Flags
		letter byte
	}{{Writable, 'w'}, {0, 'x'}, {User, 'u'}, {Global, 'g'}, {Accessed, 'a'}, {Dirty, 'd'}} {
		if f&bit.flag != 0 {
			text[i+1] = bit.letter
		}
	}
	if f&NoExec != 0 {
		text[2] = '-'
	}
	return string(text)
}

// Entry is an entry of a table, on the way to a page.
type Entry struct {
	// Table is what the manuals call the table, such as "PML4".
	Table string
	Index int
	// Addr is where the entry lies, guest-physical.
	Addr uint64
	// Value is what it holds.
	Value uint64
}

// Present reports whether the entry leads on.
func (e Entry) Present() bool { return Flags(e.Value)&Present != 0 }

// Walk is how a linear address becomes a physical one.
type Walk struct {
	Mode    Mode
	Linear  uint64
	Entries []Entry
	// Mapped: the entries lead to a page. Physical, Size (of the page, in
	// bytes) and Flags (what all entries together allow) are set then.
	Mapped   bool
	Physical uint64
	Size     uint64
	Flags    Flags
}

// level is a level of tables: which bits of a linear address are its index.
type level struct {
	table string
	shift uint
	bits  uint
	large bool // its entries may map a page
}

var levels = map[Mode][]level{
	Bits32: {{"page directory", 22, 10, true}, {"page table", 12, 10, false}},
	PAE:    {{"PDPT", 30, 2, false}, {"page directory", 21, 9, true}, {"page table", 12, 9, false}},
	Level4: {{"PML4", 39, 9, false}, {"PDPT", 30, 9, true}, {"page directory", 21, 9, true}, {"page table", 12, 9, false}},
	Level5: {{"PML5", 48, 9, false}, {"PML4", 39, 9, false}, {"PDPT", 30, 9, true}, {"page directory", 21, 9, true}, {"page table", 12, 9, false}},
}

// The physical address in an entry: bits 51 to 12, of which a processor has
// fewer.
const addressMask = 0x000f_ffff_ffff_f000

// root is where the first table lies, and whether entries are of 8 bytes.
func (s State) root(m Mode) (table uint64, size uint64) {
	switch m {
	case Bits32:
		return s.CR3 & 0xffff_f000, 4
	case PAE:
		return s.CR3 & 0xffff_ffe0, 8
	}
	return s.CR3 & addressMask, 8
}

// Translate walks the tables for a linear address. The error is of a table that
// does not lie in RAM; a page that is not mapped is none.
func Translate(m *memory.Guest, s State, linear uint64) (Walk, error) {
	mode := s.Mode()
	w := Walk{Mode: mode, Linear: linear}
	if mode == Off {
		w.Linear &= 0xffff_ffff // there is none in long mode
		w.Mapped, w.Physical, w.Size, w.Flags = true, w.Linear, memory.PageSize, Present|Writable|User
		return w, nil
	}
	if mode < Level4 {
		w.Linear &= 0xffff_ffff
	} else if !canonical(mode, linear) {
		return w, nil
	}
	table, size := s.root(mode)
	all := Present | Writable | User
	var noExec Flags
	for _, l := range levels[mode] {
		index := w.Linear >> l.shift & (1<<l.bits - 1)
		e := Entry{Table: l.table, Index: int(index), Addr: table + index*size}
		var err error
		if e.Value, err = load(m, e.Addr, size); err != nil {
			return w, fmt.Errorf("%s of %#x: %w", l.table, linear, err)
		}
		w.Entries = append(w.Entries, e)
		if !e.Present() {
			return w, nil
		}
		flags := Flags(e.Value)
		if size == 4 {
			flags &= 0xffff_ffff
		}
		if mode != PAE || l.shift != 30 { // entries of PAE's PDPT have no rights
			all &= flags | Present
			noExec |= flags & NoExec
		}
		leaf := l.shift == 12 || l.large && flags&Large != 0 && (mode != Bits32 || s.CR4&cr4PSE != 0)
		if leaf {
			w.Size = 1 << l.shift
			w.Physical = pageAddress(mode, e.Value, l.shift) | w.Linear&(w.Size-1)
			w.Mapped = true
			w.Flags = all | noExec | flags&(Accessed|Dirty|Global)
			return w, nil
		}
		table = e.Value & addressMask
		if size == 4 {
			table &= 0xffff_f000
		}
	}
	return w, nil
}

// canonical reports whether the upper bits of an address are all the same, as a
// processor insists. SDM vol. 1 §3.3.7.1.
func canonical(m Mode, linear uint64) bool {
	bits := 48
	if m == Level5 {
		bits = 57
	}
	top := int64(linear) >> (bits - 1)
	return top == 0 || top == -1
}

// pageAddress is the physical address in an entry that maps a page.
func pageAddress(m Mode, entry uint64, shift uint) uint64 {
	if m == Bits32 {
		if shift == 22 { // PSE-36: bits 39 to 32 are in bits 20 to 13. SDM table 4-4.
			return entry&0xffc0_0000 | entry>>13&0xff<<32
		}
		return entry & 0xffff_f000
	}
	return entry & addressMask &^ (1<<shift - 1)
}

func load(m *memory.Guest, addr, size uint64) (uint64, error) {
	if size == 4 {
		v, err := m.Uint32(addr)
		return uint64(v), err
	}
	return m.Uint64(addr)
}
