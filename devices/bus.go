package devices

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// Bus is an address space that devices are inserted into: one for ports, one
// for memory-mapped I/O. All Inserts come before the first access; from then
// on Read and Write may be called concurrently.
//
// An access that reaches past the end of a device is as many accesses of a byte,
// each to the device that has its address, as bridges and QEMU make of it.
type Bus struct {
	slots     []slot // ascending, apart from each other
	rest      slot   // what answers elsewhere; its device is nil without
	window    Window // that device
	unclaimed atomic.Uint64

	mu     sync.Mutex
	strays []Stray // by their first access
}

// Stray is an access that no device answered.
type Stray struct {
	Addr  uint64
	Size  int // bytes
	Write bool
	Count uint64 // how often
}

// maxStrays bounds the list of strays: a guest that searches a bus makes many.
const maxStrays = 16

type slot struct {
	base, size uint64 // addresses base to base+size-1
	name       string
	device     Device
}

// Insert puts a device at size addresses from base on. It fails when another
// device has one of them. The name is for people.
func (b *Bus) Insert(base, size uint64, name string, d Device) error {
	if size == 0 || base+size-1 < base {
		return fmt.Errorf("bus: %s at %#x: no range of %#x addresses", name, base, size)
	}
	i := sort.Search(len(b.slots), func(i int) bool { return b.slots[i].base >= base })
	if i > 0 {
		if p := b.slots[i-1]; base-p.base < p.size {
			return fmt.Errorf("bus: %s at %#x overlaps %s at %#x", name, base, p.name, p.base)
		}
	}
	if i < len(b.slots) && b.slots[i].base-base < size {
		return fmt.Errorf("bus: %s at %#x overlaps %s at %#x", name, base, b.slots[i].name, b.slots[i].base)
	}
	b.slots = slices.Insert(b.slots, i, slot{base, size, name, d})
	return nil
}

// Window is a Device that leads to devices whose addresses the guest chooses: those
// of PCI.
type Window interface {
	Device
	Space
	// Each calls f with every device that answers now.
	Each(f func(base, size uint64, name string, d Device))
}

// Otherwise has w answer wherever no device was inserted, with addresses for
// offsets: as on a PC, what is on the board comes first, and PCI then.
func (b *Bus) Otherwise(name string, w Window) {
	b.rest, b.window = slot{0, 1<<64 - 1, name, w}, w
}

// Free reports whether no device was inserted at any address of a range.
func (b *Bus) Free(base, size uint64) bool {
	s, next := b.slot(base)
	return s == nil && (next == nil || next.base-base >= size)
}

// Read fills data with what the device at addr answers, or with ones where
// there is no device, as a PC's floating bus does.
func (b *Bus) Read(addr uint64, data []byte) {
	for i := range data {
		data[i] = 0xff
	}
	b.access(addr, data, false)
}

// Write hands data to the device at addr. Where there is none it is dropped.
func (b *Bus) Write(addr uint64, data []byte) { b.access(addr, data, true) }

// access is a read or a write of data, which for a read is all ones.
func (b *Bus) access(addr uint64, data []byte, write bool) {
	n := uint64(len(data))
	s, next := b.find(addr)
	switch {
	case s != nil && n <= s.size-(addr-s.base):
		s.access(addr, data, write)
		return
	case s != nil || next != nil && next.base-addr < n: // across an end
		claimed := true
		for i := range data {
			if s, _ := b.find(addr + uint64(i)); s != nil {
				s.access(addr+uint64(i), data[i:i+1:i+1], write)
			} else {
				claimed = false
			}
		}
		if claimed {
			return
		}
	}
	b.stray(addr, len(data), write)
}

func (s *slot) access(addr uint64, data []byte, write bool) {
	if write {
		s.device.Write(addr-s.base, data)
	} else {
		s.device.Read(addr-s.base, data)
	}
}

// stray notes an access that not all of a device answered.
func (b *Bus) stray(addr uint64, size int, write bool) {
	b.unclaimed.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.strays {
		if s := &b.strays[i]; s.Addr == addr && s.Size == size && s.Write == write {
			s.Count++
			return
		}
	}
	if len(b.strays) < maxStrays {
		b.strays = append(b.strays, Stray{addr, size, write, 1})
	}
}

// Strays are the first different accesses that no device answered.
func (b *Bus) Strays() []Stray {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.strays)
}

// Find implements Space.
func (b *Bus) Find(addr uint64) (d Device, name string, rest uint64) {
	if s, _ := b.find(addr); s != nil {
		return s.device, s.name, addr - s.base
	}
	return nil, "", 0
}

// Each calls f with every device, in the order of their addresses, and then with
// those that answer otherwise.
func (b *Bus) Each(f func(base, size uint64, name string, d Device)) {
	for _, s := range b.slots {
		f(s.base, s.size, s.name, s.device)
	}
	if b.window != nil {
		b.window.Each(f)
	}
}

// Unclaimed counts the accesses that no device answered.
func (b *Bus) Unclaimed() uint64 { return b.unclaimed.Load() }

// find is the slot that answers at an address, and the first behind it.
func (b *Bus) find(addr uint64) (at, next *slot) {
	at, next = b.slot(addr)
	if at == nil && b.window != nil {
		if d, _, _ := b.window.Find(addr); d != nil {
			at = &b.rest
		}
	}
	return at, next
}

// slot is the one that has an address, and the first behind it.
func (b *Bus) slot(addr uint64) (at, next *slot) {
	i := sort.Search(len(b.slots), func(i int) bool { return b.slots[i].base > addr })
	if i < len(b.slots) {
		next = &b.slots[i]
	}
	if i == 0 {
		return nil, next
	}
	if s := &b.slots[i-1]; addr-s.base < s.size {
		return s, next
	}
	return nil, next
}
