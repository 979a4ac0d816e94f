package memory

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Discard gives the whole pages in a slice of guest memory back to the host;
// they read as zero from now on. See madvise(2), MADV_DONTNEED.
func Discard(s []byte) error {
	page := os.Getpagesize()
	start := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))) & (page - 1)
	if start >= len(s) {
		return nil
	}
	if s = s[start:]; len(s) < page {
		return nil
	}
	return unix.Madvise(s[:len(s)/page*page], unix.MADV_DONTNEED)
}
