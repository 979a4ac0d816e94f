package memory

// The guest-physical address map of the PC that vmm builds.
//
//	0x0_0000_0000  RAM, at most 3 GiB of it
//	0x0_C000_0000  the hole: no RAM, where a PC keeps its memory-mapped devices
//	0x1_0000_0000  the rest of RAM
//
// RAM between 640 KiB and 1 MiB is backed like all the rest, but boot tells
// the guest to keep out of it (Documentation/arch/x86/boot.rst, "Memory
// Layout"): firmware tables live there.
const (
	// HoleStart is where RAM below 4 GiB ends at the latest, in bytes.
	HoleStart = 0xC000_0000
	// HoleEnd is where RAM goes on above the hole, in bytes.
	HoleEnd = 0x1_0000_0000
	// PageSize is the granule of guest memory, in bytes.
	PageSize = 4096
)

// Range is a piece of the guest-physical address space, in bytes.
type Range struct {
	Start, Size uint64
}

// End is the first address after r.
func (r Range) End() uint64 { return r.Start + r.Size }

// Contains reports whether all n bytes at addr lie in r.
func (r Range) Contains(addr, n uint64) bool {
	return addr >= r.Start && addr-r.Start <= r.Size && n <= r.Size-(addr-r.Start)
}

// Overlaps reports whether r and o share a byte.
func (r Range) Overlaps(o Range) bool {
	return r.Size > 0 && o.Size > 0 && r.Start < o.End() && o.Start < r.End()
}

// Layout splits size bytes of RAM around the hole below 4 GiB.
func Layout(size uint64) []Range {
	if size <= HoleStart {
		return []Range{{0, size}}
	}
	return []Range{{0, HoleStart}, {HoleEnd, size - HoleStart}}
}
