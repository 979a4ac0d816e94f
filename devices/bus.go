package devices

import (
	"fmt"
	"slices"
	"sort"
	"sync/atomic"
)

// Bus is an address space that devices are inserted into: one for ports, one
// for memory-mapped I/O. All Inserts come before the first access; from then
// on Read and Write may be called concurrently.
type Bus struct {
	slots     []slot // ascending, apart from each other
	unclaimed atomic.Uint64
}

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

// Read fills data with what the device at addr answers, or with ones where
// there is no device, as a PC's floating bus does.
func (b *Bus) Read(addr uint64, data []byte) {
	for i := range data {
		data[i] = 0xff
	}
	if s := b.find(addr); s != nil {
		s.device.Read(addr-s.base, data)
		return
	}
	b.unclaimed.Add(1)
}

// Write hands data to the device at addr. Where there is none it is dropped.
func (b *Bus) Write(addr uint64, data []byte) {
	if s := b.find(addr); s != nil {
		s.device.Write(addr-s.base, data)
		return
	}
	b.unclaimed.Add(1)
}

// Find implements Space.
func (b *Bus) Find(addr uint64) (d Device, name string, rest uint64) {
	if s := b.find(addr); s != nil {
		return s.device, s.name, addr - s.base
	}
	return nil, "", 0
}

// Each calls f with every device, in the order of their addresses.
func (b *Bus) Each(f func(base, size uint64, name string, d Device)) {
	for _, s := range b.slots {
		f(s.base, s.size, s.name, s.device)
	}
}

// Unclaimed counts the accesses that no device answered.
func (b *Bus) Unclaimed() uint64 { return b.unclaimed.Load() }

func (b *Bus) find(addr uint64) *slot {
	i := sort.Search(len(b.slots), func(i int) bool { return b.slots[i].base > addr })
	if i == 0 {
		return nil
	}
	if s := &b.slots[i-1]; addr-s.base < s.size {
		return s
	}
	return nil
}
