// Package disk is what stands behind a virtual disk on the host: an image in a
// file or on a block device. It locks what it opens against use by two
// machines.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// SectorSize is the granule of a disk, in bytes. A size that is no multiple of
// it is refused.
const SectorSize = 512

// Format is how an image lies in its file.
type Format string

// The formats.
const (
	FormatRaw   Format = "raw"
	FormatQcow2 Format = "qcow2"
)

// Config describes an image to Open.
type Config struct {
	Path     string
	Format   Format // "" is FormatRaw
	ReadOnly bool
	// Direct bypasses the host's page cache: O_DIRECT, of open(2).
	Direct bool
}

// Image is a disk's contents. Offsets and lengths are in bytes, inside the
// image, and multiples of SectorSize. All methods but Close may be called
// concurrently. Errors are those of the host's system calls.
type Image interface {
	// Size is the size of the image.
	Size() int64
	// Read fills v from offset off on. When wait is false, and it would have
	// to wait for the storage, it fails with unix.EAGAIN. What v holds
	// afterwards is of no use.
	Read(v *memory.Vector, off int64, wait bool) error
	// Write stores v at offset off; with sync, so that it outlives a crash
	// of the host. For wait, see Read.
	Write(v *memory.Vector, off int64, sync, wait bool) error
	// Flush makes all that was written so far outlive a crash of the host.
	Flush() error
	// Discard frees the storage behind n bytes at off, whose contents are
	// lost; it fails with unix.EOPNOTSUPP where the host cannot. Zero makes
	// them zero, and with unmap may free the storage.
	Discard(off, n int64) error
	Zero(off, n int64, unmap bool) error
	Close() error
}

// Open opens an image and locks it: many may read it, or one may write.
func Open(c Config) (Image, error) {
	flags := unix.O_CLOEXEC | unix.O_RDWR
	if c.ReadOnly {
		flags = unix.O_CLOEXEC | unix.O_RDONLY
	}
	if c.Direct {
		flags |= unix.O_DIRECT
	}
	file, err := os.OpenFile(c.Path, flags, 0)
	if err != nil {
		return nil, explain(c, err)
	}
	image, err := open(c, file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("disk %s: %w", c.Path, err)
	}
	return image, nil
}

// explain says what a user can do about a failure to open.
func explain(c Config, err error) error {
	err = errors.Unwrap(err)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		if !c.ReadOnly {
			return fmt.Errorf("disk %s: %w; to use it read-only, add \"ro\"", c.Path, err)
		}
	case errors.Is(err, unix.EINVAL) && c.Direct:
		return fmt.Errorf("disk %s: its file system cannot bypass the page cache; leave out \"cache=none\"", c.Path)
	}
	return fmt.Errorf("disk %s: %w", c.Path, err)
}

func open(c Config, file *os.File) (Image, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeDevice {
		return nil, errors.New("it is neither a regular file nor a block device")
	}
	if err := lock(file, c.ReadOnly); err != nil {
		return nil, err
	}
	switch c.Format {
	case "", FormatRaw:
		return openRaw(c, file)
	case FormatQcow2:
		return openQcow2(c, file)
	}
	return nil, fmt.Errorf("format %q: choose raw or qcow2", c.Format)
}

// lock takes a lock on the whole file for as long as it is open: a shared one
// to read, an exclusive one to write. It is an open file description lock, of
// fcntl(2), as QEMU uses as well.
func lock(file *os.File, readOnly bool) error {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if readOnly {
		l.Type = unix.F_RDLCK
	}
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errors.New("it is in use by another process, and two that write would destroy it; use a copy, or \"ro\" for all that use it")
	}
	return err
}

// checkSize refuses sizes that no disk has.
func checkSize(size int64) error {
	switch {
	case size == 0:
		return errors.New("it is empty")
	case size%SectorSize != 0:
		return fmt.Errorf("its size of %d bytes is no multiple of %d; to extend it: truncate -s %%%d FILE", size, SectorSize, SectorSize)
	}
	return nil
}
