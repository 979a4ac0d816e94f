//go:build amd64 && solutions

package exercise

import (
	"encoding/binary"
	"math/bits"
)

// Walk goes down a table a level.
func Walk(ram []byte, cr3, linear uint64) (physical uint64, ok bool) {
	const present, large = 1 << 0, 1 << 7
	const address = 0x000f_ffff_ffff_f000
	table := cr3 & address
	for _, shift := range []uint{39, 30, 21, 12} {
		at := table + 8*(linear>>shift&511)
		if at > uint64(len(ram))-8 {
			return 0, false
		}
		entry := binary.LittleEndian.Uint64(ram[at:])
		if entry&present == 0 {
			return 0, false
		}
		if shift == 12 || entry&large != 0 && shift != 39 {
			offset := uint64(1)<<shift - 1
			return entry&address&^offset | linear&offset, true
		}
		table = entry & address
	}
	return 0, false
}

// Dirty takes the words apart, bit by bit.
func Dirty(bitmap []uint64) (pages []int) {
	for i, word := range bitmap {
		for ; word != 0; word &= word - 1 {
			pages = append(pages, 64*i+bits.TrailingZeros64(word))
		}
	}
	return pages
}
