package paging

import "vmm/memory"

// Range is a run of linear addresses that are mapped to one run of physical
// addresses with the same rights.
type Range struct {
	Linear   uint64
	Physical uint64
	Size     uint64 // in bytes
	Page     uint64
	Flags    Flags // without Accessed and Dirty
}

// walker collects ranges.
type walker struct {
	memory *memory.Guest
	state  State
	mode   Mode
	size   uint64 // of an entry
	limit  int    // tables that may still be looked at
	visit  func(Range) bool
	run    Range
	any    bool
}

// maxTables bounds the work for tables that lead to themselves, as a guest may
// make them, and as some kernels do.
const maxTables = 1 << 18

// Ranges calls f with all that is mapped, in ascending order of linear addresses,
// until f returns false. It reports whether it saw everything: it gives up on a
// guest with more tables than a guest has.
func Ranges(m *memory.Guest, s State, f func(Range) bool) (complete bool) {
	mode := s.Mode()
	if mode == Off {
		return f(Range{Size: 1 << 32, Page: memory.PageSize, Flags: Present | Writable | User})
	}
	table, size := s.root(mode)
	w := walker{memory: m, state: s, mode: mode, size: size, limit: maxTables, visit: f}
	complete = w.table(levels[mode], table, 0, Present|Writable|User, 0)
	if complete && w.any {
		complete = f(w.run)
	}
	return complete
}

// table looks at a table, the first of levels, whose first entry maps base.
func (w *walker) table(l []level, addr, base uint64, rights, noExec Flags) bool {
	if w.limit--; w.limit < 0 {
		return false
	}
	entries := uint64(1) << l[0].bits
	b, err := w.memory.Slice(addr, entries*w.size)
	if err != nil {
		return true // the processor would not find it either
	}
	for i := range entries {
		value := word(b[i*w.size:], w.size)
		flags := Flags(value)
		if flags&Present == 0 {
			continue
		}
		linear := base + i<<l[0].shift
		if len(l) == len(levels[w.mode]) && w.mode >= Level4 && i >= entries/2 {
			linear |= ^uint64(0) << (l[0].shift + l[0].bits)
		}
		all, never := rights, noExec
		if w.mode != PAE || l[0].shift != 30 {
			all, never = rights&(flags|Present), noExec|flags&NoExec
		}
		if l[0].shift == 12 || l[0].large && flags&Large != 0 && (w.mode != Bits32 || w.state.CR4&cr4PSE != 0) {
			if !w.page(linear, pageAddress(w.mode, value, l[0].shift), 1<<l[0].shift, all|never|flags&Global) {
				return false
			}
			continue
		}
		next := value & addressMask
		if w.size == 4 {
			next &= 0xffff_f000
		}
		if !w.table(l[1:], next, linear, all, never) {
			return false
		}
	}
	return true
}

// page adds a page to the run, or begins a new one.
func (w *walker) page(linear, physical, size uint64, flags Flags) bool {
	r := &w.run
	if w.any && r.Linear+r.Size == linear && r.Physical+r.Size == physical && r.Page == size && r.Flags == flags {
		r.Size += size
		return true
	}
	if w.any && !w.visit(*r) {
		return false
	}
	w.any = true
	*r = Range{linear, physical, size, size, flags}
	return true
}

// word loads an entry.
func word(b []byte, size uint64) uint64 {
	if size == 4 {
		return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24
	}
	var v uint64
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}
