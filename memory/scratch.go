package memory

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// Scratch is n bytes of memory to work with, zero, and a function that gives them
// back. They are no part of Go's heap, which would take long to let go of many.
func Scratch(n int) ([]byte, func() error, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, fmt.Errorf("%d bytes of memory: %w", n, err)
	}
	// Whoever asks is about to write all of it. It works without huge pages too.
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	return b, func() error { return unix.Munmap(b) }, nil
}

// NonZero calls do for each run of pages of data that are not all zeros, with the
// run's offset, until do fails.
func NonZero(data []byte, do func(off int, run []byte) error) error {
	end := func(at int) int { return min(at+PageSize, len(data)) }
	for at := 0; at < len(data); {
		run := at
		for at < len(data) && !isZero(data[at:end(at)]) {
			at = end(at)
		}
		if at > run {
			if err := do(run, data[run:at]); err != nil {
				return err
			}
		}
		at = end(at) // what is there is zero
	}
	return nil
}

var zeros [PageSize]byte

func isZero(page []byte) bool { return bytes.Equal(page, zeros[:len(page)]) }
