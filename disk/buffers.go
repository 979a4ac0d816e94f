package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// bufferSize is how much an image moves at a time where it cannot move it straight
// to or from guest memory, and maxBuffers how many such moves are under way at once,
// each with a buffer. So an image takes no more memory than their product, however
// large the requests of a guest are, and however many.
const (
	bufferSize = 1 << 20
	maxBuffers = 4
)

// buffers lends memory that is aligned to pages. A buffer that has been used once
// is kept.
type buffers chan []byte

func newBuffers() buffers {
	b := make(buffers, maxBuffers)
	for range maxBuffers {
		b <- nil
	}
	return b
}

// get waits for a buffer of bufferSize bytes, which put gives back. A caller has one
// at a time: two that wait for each other's second would wait for ever.
func (b buffers) get() ([]byte, error) {
	buf := <-b
	if buf != nil {
		return buf, nil
	}
	buf, err := unix.Mmap(-1, 0, bufferSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b <- nil
		return nil, err
	}
	return buf, nil
}

func (b buffers) put(buf []byte) { b <- buf }

// close lets go of the memory, as soon as all buffers are back.
func (b buffers) close() error {
	var errs []error
	for range maxBuffers {
		if buf := <-b; buf != nil {
			errs = append(errs, unix.Munmap(buf))
		}
	}
	for range maxBuffers {
		b <- nil // to be closed twice does no harm
	}
	return errors.Join(errs...)
}
