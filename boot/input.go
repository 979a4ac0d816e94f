package boot

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxPiped is how much is taken from a pipe, in bytes. Nothing else bounds what may
// come out of one, and it is kept in memory.
const maxPiped = 1 << 30

// OpenInput opens a file for reading: a regular file or, as with
// --initrd <(find . | cpio -o -H newc), a pipe, which is read to its end into a
// file in memory.
func OpenInput(path string) (*os.File, error) {
	info, err := os.Stat(path) // before the open, which does things to a device
	if err != nil {
		return nil, err
	}
	pipe := info.Mode()&os.ModeNamedPipe != 0
	if !pipe && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil || !pipe {
		return f, err
	}
	defer f.Close()
	fd, err := unix.MemfdCreate("vmm-input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	kept := os.NewFile(uintptr(fd), path)
	n, err := io.Copy(kept, io.LimitReader(f, maxPiped+1))
	if err == nil && n > maxPiped {
		err = fmt.Errorf("more than %d MiB come out of the pipe; put it into a file", maxPiped>>20)
	}
	if err != nil {
		kept.Close()
		return nil, err
	}
	return kept, nil
}
