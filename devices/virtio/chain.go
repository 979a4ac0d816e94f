package virtio

import "vmm/memory"

// Chain is a chain of descriptors: a request of the driver, with the memory
// that the device reads and the memory that it writes. Its zero value is ready
// for [Queue.Pop], which uses it again and again without allocating.
type Chain struct {
	Readable Buffers // from the driver
	Writable Buffers // for the device

	head   uint16
	pieces [][]byte // what Readable and Writable are slices of
	reads  int      // how many of pieces are readable
	count  int      // descriptors, those of no length too
	size   uint64   // bytes of all pieces
}

// Head is the index of the chain's first descriptor, which tells it from the
// others that are under way.
func (c *Chain) Head() uint16 { return c.head }

// Cap is how many descriptors the chain has room for when it is used again.
func (c *Chain) Cap() int { return cap(c.pieces) }

// maxChainBytes is the total length of a chain at the most. virtio §2.7.5.
const maxChainBytes = 1 << 32

func (c *Chain) reset(head uint16) {
	c.head, c.pieces, c.reads, c.count, c.size = head, c.pieces[:0], 0, 0, 0
	c.Readable, c.Writable = nil, nil
}

// add appends the memory of a descriptor.
func (c *Chain) add(m *memory.Guest, d descriptor) error {
	c.count++
	if c.size += uint64(d.len); c.size > maxChainBytes {
		return errLong
	}
	if d.flags&descWrite == 0 && c.reads != len(c.pieces) {
		return errOrder
	}
	piece, err := m.Slice(d.addr, uint64(d.len))
	if err != nil {
		return errMemory
	}
	if d.len > 0 {
		c.pieces = append(c.pieces, piece)
		if d.flags&descWrite == 0 {
			c.reads++
		}
	}
	c.Readable = c.pieces[:c.reads:c.reads]
	c.Writable = c.pieces[c.reads:]
	return nil
}
