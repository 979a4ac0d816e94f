//go:build amd64 && solutions

package exercise

// Range is a range of guest-physical addresses that is RAM.
type Range struct{ Start, Size uint64 }

const hole, top = 3 << 30, 4 << 30

// MemoryMap leaves out what is not RAM.
func MemoryMap(size uint64) []Range {
	low := min(size, hole)
	all := []Range{{0, 0x9_fc00}, {1 << 20, low - 1<<20}}
	if size > low {
		all = append(all, Range{top, size - low})
	}
	return all
}

// InitrdAddr rounds down.
func InitrdAddr(ram, kernelEnd, size, last uint64) (addr uint64, ok bool) {
	end := min(ram, hole, last+1)
	if size > end {
		return 0, false
	}
	addr = (end - size) &^ 4095
	return addr, addr >= kernelEnd
}
