package memory

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// minUnmapped is the smallest piece, in bytes, that takes the place of a part of a
// mapped file: each splits a mapping, the host limits their number, and the guest
// decides how many there are.
const minUnmapped = 64 * PageSize

// Discard gives the whole pages in a slice of guest memory back to the host;
// they read as zero from now on. Small pieces of a mapped file it only clears. See madvise(2), MADV_DONTNEED.
func (g *Guest) Discard(s []byte) error {
	page := os.Getpagesize()
	start := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))) & (page - 1)
	if start >= len(s) {
		return nil
	}
	if s = s[start:]; len(s) < page {
		return nil
	}
	s = s[:len(s)/page*page]
	switch {
	case !g.mapped.overlap(s):
	case len(s) < minUnmapped:
		clear(s)
		return nil
	default:
		return clearPages(s) // or the file's contents would come back
	}
	return unix.Madvise(s, unix.MADV_DONTNEED)
}
