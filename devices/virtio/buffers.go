package virtio

// Buffers are pieces of guest memory that belong together, in order. Read and
// Write consume them from the front. They are windows: the guest may change
// what they hold at any moment, so a value is copied once and then checked.
type Buffers [][]byte

// Len is the number of bytes left.
func (b Buffers) Len() uint64 {
	var n uint64
	for _, piece := range b {
		n += uint64(len(piece))
	}
	return n
}

// Read copies from the front into p and consumes what it copied. It returns
// how much that was: less than len(p) only at the end.
func (b *Buffers) Read(p []byte) int {
	n := 0
	for n < len(p) && len(*b) > 0 {
		k := copy(p[n:], (*b)[0])
		b.skip(k)
		n += k
	}
	return n
}

// Write copies p to the front and consumes what it filled. It returns how much
// that was: less than len(p) only when there is no more room.
func (b *Buffers) Write(p []byte) int {
	n := 0
	for n < len(p) && len(*b) > 0 {
		k := copy((*b)[0], p[n:])
		b.skip(k)
		n += k
	}
	return n
}

// Skip consumes n bytes, or all that are left.
func (b *Buffers) Skip(n uint64) {
	for n > 0 && len(*b) > 0 {
		k := min(n, uint64(len((*b)[0])))
		b.skip(int(k))
		n -= k
	}
}

// skip consumes k bytes of the first piece.
func (b *Buffers) skip(k int) {
	if k == len((*b)[0]) {
		*b = (*b)[1:]
	} else {
		(*b)[0] = (*b)[0][k:]
	}
}

// CutLast takes the last byte off the end and returns the piece of memory that
// it is, or nil when there is none.
func (b *Buffers) CutLast() []byte {
	last := len(*b) - 1
	if last < 0 {
		return nil
	}
	piece := (*b)[last]
	if end := len(piece) - 1; end > 0 {
		(*b)[last] = piece[:end]
		return piece[end:]
	}
	*b = (*b)[:last]
	return piece
}
