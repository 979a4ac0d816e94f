package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// raw is an image whose bytes are those of its file.
type raw struct {
	file   *os.File
	fd     int
	size   int64
	direct bool
	// stamped is when the file's times become old, in nanoseconds since 1970.
	stamped atomic.Int64
}

func openRaw(c Config, file *os.File) (Image, error) {
	size, err := file.Seek(0, io.SeekEnd) // of a block device too
	if err != nil {
		return nil, err
	}
	// To guess the format from the contents would let a guest choose it, by
	// what it writes to its disk. This guess can only refuse.
	if c.Format == "" {
		var magic [4]byte
		if _, err := file.ReadAt(magic[:], 0); err == nil && binary.BigEndian.Uint32(magic[:]) == qcow2Magic {
			return nil, errors.New(`it looks like a qcow2 image; add "format=qcow2,ro", or "format=raw" to use it as it is`)
		}
	}
	if err := checkSize(size); err != nil {
		return nil, err
	}
	return &raw{file: file, fd: int(file.Fd()), size: size, direct: c.Direct}, nil
}

func (r *raw) Size() int64 { return r.size }

// FD is the file, in which the image's bytes are at their own offsets.
func (r *raw) FD() int { return r.fd }

func (r *raw) Read(v *memory.Vector, off int64, wait bool) error {
	flags := unix.RWF_NOWAIT // from the page cache
	if wait {
		flags = 0
	} else if r.direct {
		return unix.EAGAIN
	}
	for !v.Empty() {
		n, err := v.Preadv(r.fd, off, flags)
		switch {
		case r.misaligned(err):
			return r.bounceRead(v, off)
		case err == unix.EOPNOTSUPP && !wait:
			return unix.EAGAIN // a file system that cannot tell
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the file ends at %d: %w", off, unix.EIO) // it was cut short
		}
		v.Skip(n)
		off += int64(n)
	}
	return nil
}

func (r *raw) Write(v *memory.Vector, off int64, sync, wait bool) error {
	if !wait && (sync || r.direct) {
		r.stamp()
		return unix.EAGAIN
	}
	// What goes to the page cache waits for nothing, except when the kernel
	// holds up a writer that is faster than the storage: rightly so.
	flags := 0
	if sync {
		flags = unix.RWF_DSYNC
	}
	for !v.Empty() {
		n, err := v.Pwritev(r.fd, off, flags)
		switch {
		case r.misaligned(err):
			return r.bounceWrite(v, off, flags)
		case err != nil:
			return err
		}
		v.Skip(n)
		off += int64(n)
	}
	return nil
}

// stamp sets the file's times ahead of a write through io_uring, if the kernel's
// clock for them has moved on. A write that must do so itself may have to wait for
// the file system, which is why the kernel hands it to a thread; and all that come
// before that thread has run.
func (r *raw) stamp() {
	if !r.direct || time.Now().UnixNano() < r.stamped.Load() {
		return
	}
	// futimens(3). Whoever may write to the file may do this. Without it, writes
	// are slower.
	_, _, _ = unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(r.fd), 0, 0, 0, 0, 0)
	var now, tick unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) == nil && unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &tick) == nil {
		r.stamped.Store(now.Nano() + tick.Nano())
	}
}

// misaligned reports whether an error says that O_DIRECT does not take memory
// at such addresses or in such pieces. Guests seldom ask for that.
func (r *raw) misaligned(err error) bool { return r.direct && err == unix.EINVAL }

// bounceRead and bounceWrite go by way of memory that is aligned: a mapping is.
func (r *raw) bounceRead(v *memory.Vector, off int64) error {
	buf, err := unix.Mmap(-1, 0, v.Len(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	if _, err := r.file.ReadAt(buf, off); err != nil {
		return err
	}
	v.CopyFrom(buf)
	return nil
}

func (r *raw) bounceWrite(v *memory.Vector, off int64, flags int) error {
	buf, err := unix.Mmap(-1, 0, v.Len(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	v.CopyTo(buf)
	var whole memory.Vector
	for whole.Set([][]byte{buf}); !whole.Empty(); {
		n, err := whole.Pwritev(r.fd, off, flags)
		if err != nil {
			return err
		}
		whole.Skip(n)
		off += int64(n)
	}
	return nil
}

func (r *raw) Flush() error {
	for {
		if err := unix.Fdatasync(r.fd); err != unix.EINTR {
			return err
		}
	}
}

func (r *raw) Discard(off, n int64) error {
	return r.allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (r *raw) Zero(off, n int64, unmap bool) error {
	if unmap && r.Discard(off, n) == nil { // a hole reads as zeroes
		return nil
	}
	err := r.allocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == unix.EOPNOTSUPP {
		return r.writeZeroes(off, n)
	}
	return err
}

// writeZeroes is for file systems that cannot zero a range by themselves, as
// tmpfs.
func (r *raw) writeZeroes(off, n int64) error {
	const piece = 1 << 20
	zeroes, err := unix.Mmap(-1, 0, piece, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(zeroes) }()
	for n > 0 {
		written, err := r.file.WriteAt(zeroes[:min(n, piece)], off)
		if err != nil {
			return err
		}
		off += int64(written)
		n -= int64(written)
	}
	return nil
}

// allocate is fallocate(2), which knows block devices as well.
func (r *raw) allocate(mode uint32, off, n int64) error {
	for {
		if err := unix.Fallocate(r.fd, mode, off, n); err != unix.EINTR {
			return err
		}
	}
}

func (r *raw) Close() error { return r.file.Close() }
