package virtiotest

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"vmm/memory"
)

var le = binary.LittleEndian

// Ring is the driver's side of a split virtqueue, with its three parts in guest
// memory. Its fields are for tests that put nonsense there. virtio §2.7.
type Ring struct {
	Size              int
	Desc, Avail, Used uint64 // guest-physical addresses

	m      *memory.Guest
	events bool

	availFlags, availIdx, usedEvent, availEvent memory.Half
	used                                        *atomic.Uint32

	free  []uint16 // descriptors
	chain [][]uint16
	next  uint16 // index of the next available element
	seen  uint16 // index of the next used element to look at
}

// Buffer is a piece of guest memory for a descriptor.
type Buffer struct {
	Addr  uint64
	Data  []byte
	Write bool // for the device to write
}

// Flags of descriptors. virtio §2.7.5.
const (
	Next     = 1
	Write    = 2
	Indirect = 4
)

func newRing(t testing.TB, m *memory.Guest, alloc func(n, align uint64) uint64, size int, events bool) *Ring {
	n := uint64(size)
	r := &Ring{
		Size: size, Desc: alloc(16*n, 16), Avail: alloc(6+2*n, 2), Used: alloc(6+8*n, 4),
		m: m, events: events, chain: make([][]uint16, size),
	}
	for i := range size {
		r.free = append(r.free, uint16(size-1-i))
		r.chain[i] = make([]uint16, 0, 8)
	}
	// The memory may have been something else before.
	for addr, n := range map[uint64]uint64{r.Desc: 16 * n, r.Avail: 6 + 2*n, r.Used: 6 + 8*n} {
		clear(r.bytes(addr, n))
	}
	var err error
	half := func(addr uint64) memory.Half {
		h, e := m.Half(addr)
		if e != nil {
			err = e
		}
		return h
	}
	r.availFlags, r.availIdx, r.usedEvent = half(r.Avail), half(r.Avail+2), half(r.Avail+4+2*n)
	r.availEvent = half(r.Used + 4 + 8*n)
	if r.used, err = m.Word(r.Used); err != nil {
		t.Fatal(err)
	}
	return r
}

// SetDesc writes an entry of the descriptor table.
func (r *Ring) SetDesc(i uint16, addr uint64, n uint32, flags, next uint16) {
	PutDesc(r.bytes(r.Desc+16*uint64(i), 16), addr, n, flags, next)
}

// PutDesc writes a descriptor to b.
func PutDesc(b []byte, addr uint64, n uint32, flags, next uint16) {
	le.PutUint64(b, addr)
	le.PutUint32(b[8:], n)
	le.PutUint16(b[12:], flags)
	le.PutUint16(b[14:], next)
}

func (r *Ring) bytes(addr, n uint64) []byte {
	b, err := r.m.Slice(addr, n)
	if err != nil {
		panic(err)
	}
	return b
}

// Add makes a chain of buffers available and returns its head. It does not ring
// the doorbell. The ring must have room.
func (r *Ring) Add(buffers ...Buffer) uint16 {
	head := r.free[len(r.free)-1]
	used := r.chain[head][:0]
	for i, b := range buffers {
		d := r.free[len(r.free)-1-i]
		used = append(used, d)
		var flags, next uint16
		if b.Write {
			flags |= Write
		}
		if i < len(buffers)-1 {
			flags |= Next
			next = r.free[len(r.free)-2-i]
		}
		r.SetDesc(d, b.Addr, uint32(len(b.Data)), flags, next)
	}
	r.free = r.free[:len(r.free)-len(buffers)]
	r.chain[head] = used
	r.Offer(head)
	return head
}

// Offer makes the chain that starts at head available.
func (r *Ring) Offer(head uint16) {
	le.PutUint16(r.bytes(r.Avail+4+2*uint64(int(r.next)%r.Size), 2), head)
	r.next++
	r.availIdx.Store(r.next)
}

// SetAvail sets the index of the available ring, sense or nonsense.
func (r *Ring) SetAvail(idx uint16) { r.availIdx.Store(idx) }

// Take returns the next chain that the device has given back: its head and the
// number of bytes written.
func (r *Ring) Take() (head uint16, n uint32, ok bool) {
	if uint16(r.used.Load()>>16) == r.seen {
		return 0, 0, false
	}
	e := r.bytes(r.Used+4+8*uint64(int(r.seen)%r.Size), 8)
	head, n = uint16(le.Uint32(e)), le.Uint32(e[4:])
	r.seen++
	if int(head) < r.Size {
		r.free = append(r.free, r.chain[head]...)
		r.chain[head] = r.chain[head][:0]
	}
	return head, n, true
}

// Free is the number of descriptors that are not in a chain.
func (r *Ring) Free() int { return len(r.free) }

// Available is the index of the next chain to be made available.
func (r *Ring) Available() uint16 { return r.next }

// WantsDoorbell reports whether the device asks for a doorbell when the chains
// from index old on become available.
func (r *Ring) WantsDoorbell(old uint16) bool {
	if r.events {
		return r.next-r.availEvent.Load()-1 < r.next-old
	}
	return r.used.Load()&1 == 0
}

// WantInterrupt asks the device for an interrupt when it gives back the next
// chain, or for none.
func (r *Ring) WantInterrupt(on bool) {
	switch {
	case r.events && on:
		r.usedEvent.Store(r.seen)
	case r.events:
		r.usedEvent.Store(r.seen - 1)
	case on:
		r.availFlags.Store(0)
	default:
		r.availFlags.Store(1)
	}
}
