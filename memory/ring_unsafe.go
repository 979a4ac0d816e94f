package memory

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Half is a 16-bit value in guest memory through which vmm and a running guest
// talk: an index or the flags of a ring. Its Load and Store are atomic and
// sequentially consistent, as those of package sync/atomic are: what was
// written before a Store is seen by who sees its value, and a Load after a
// Store is not served before others can see the Store.
//
// Go has no 16-bit atomics, so a Half is a part of the aligned 32-bit word
// around it.
type Half struct {
	word  *atomic.Uint32
	shift uint // 0 or 16: guests are little-endian, and so is the host
}

// Half returns the 16-bit value at guest-physical address addr, which must be
// a multiple of 2.
func (g *Guest) Half(addr uint64) (Half, error) {
	if addr%2 != 0 {
		return Half{}, fmt.Errorf("guest memory: %#x is not a multiple of 2", addr)
	}
	word, err := g.Word(addr &^ 3)
	return Half{word, uint(addr&2) * 8}, err
}

// Load reads the value.
func (h Half) Load() uint16 { return uint16(h.word.Load() >> h.shift) }

// Store writes the value and leaves the other half of the word as it is, even
// while the guest writes to that.
func (h Half) Store(v uint16) {
	for {
		old := h.word.Load()
		if h.word.CompareAndSwap(old, old&^(0xffff<<h.shift)|uint32(v)<<h.shift) {
			return
		}
	}
}

// Word returns the 32-bit value at guest-physical address addr, which must be a
// multiple of 4, for atomic access.
func (g *Guest) Word(addr uint64) (*atomic.Uint32, error) {
	if addr%4 != 0 {
		return nil, fmt.Errorf("guest memory: %#x is not a multiple of 4", addr)
	}
	s, err := g.Slice(addr, 4)
	if err != nil {
		return nil, err
	}
	// Regions and their host memory are page-aligned, so the host's address
	// is aligned as the guest's is.
	return (*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(s))), nil
}
