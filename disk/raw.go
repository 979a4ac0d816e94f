package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// raw is an image whose bytes are those of its file.
type raw struct {
	file    *os.File
	fd      int
	size    int64
	direct  bool
	align   int  // O_DIRECT's: see alignment
	guarded bool // nobody has said that it is raw: see guards
	buffers buffers
	// partial is held by a write of less than a block, which reads the block first,
	// and for reading by all others: where blocks are larger than sectors.
	partial sync.RWMutex
	// stamped is when the file's times become old, in nanoseconds since 1970.
	stamped atomic.Int64
	tick    int64 // of the kernel's clock for them, in nanoseconds
}

func openRaw(c Config, file *os.File) (Image, error) {
	size, err := file.Seek(0, io.SeekEnd) // of a block device too
	if err != nil {
		return nil, err
	}
	if c.Format == "" {
		if err := refuseContainer(file, size); err != nil {
			return nil, err
		}
	}
	if err := checkSize(size); err != nil {
		return nil, err
	}
	r := &raw{
		file: file, fd: int(file.Fd()), size: size, direct: c.Direct, align: SectorSize,
		guarded: c.Format == "" && !c.ReadOnly, buffers: newBuffers(),
	}
	if c.Direct {
		if r.align, err = alignment(r.fd); err != nil {
			return nil, err
		}
		if size%int64(r.align) != 0 {
			return nil, fmt.Errorf("its size of %d bytes is no multiple of its storage's blocks, of %d bytes; leave out \"cache=none\"", size, r.align)
		}
		var tick unix.Timespec
		if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &tick); err != nil {
			return nil, err
		}
		r.tick = tick.Nano()
	}
	return r, nil
}

func (r *raw) Size() int64 { return r.size }

// File is the file to whose offset off v may be written, or from which it may be
// read, by others than this package: false where that has to be Read's and Write's.
func (r *raw) File(v *memory.Vector, off int64, write bool) (fd int, ok bool) {
	if r.direct && !r.fits(v, off) || write && (r.coarse() || r.guards(off, int64(v.Len()))) {
		return -1, false
	}
	return r.fd, true
}

func (r *raw) Read(v *memory.Vector, off int64, wait bool) error {
	flags := unix.RWF_NOWAIT // from the page cache
	if wait {
		flags = 0
	} else if r.direct {
		return unix.EAGAIN
	}
	if r.direct && !r.fits(v, off) {
		return r.bounceRead(v, off)
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
	if r.direct && !r.fits(v, off) || r.guards(off, int64(v.Len())) {
		return r.bounceWrite(v, off, flags)
	}
	for !v.Empty() {
		n, err := r.write(v, off, flags)
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

// write writes whole blocks once.
func (r *raw) write(v *memory.Vector, off int64, flags int) (int, error) {
	if r.coarse() {
		r.partial.RLock()
		defer r.partial.RUnlock()
	}
	return v.Pwritev(r.fd, off, flags)
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
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) == nil {
		r.stamped.Store(now.Nano() + r.tick)
	}
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
	switch err := r.allocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n); err {
	case unix.EOPNOTSUPP, unix.EINVAL: // as on tmpfs; and of parts of a device's blocks
		return r.writeZeroes(off, n)
	default:
		return err
	}
}

// writeZeroes is for what cannot zero a range by itself.
func (r *raw) writeZeroes(off, n int64) error {
	// Memory that is only read takes none of the host's.
	zeroes, err := unix.Mmap(-1, 0, bufferSize, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(zeroes) }()
	var v memory.Vector
	for n > 0 {
		piece := min(n, bufferSize)
		v.Set([][]byte{zeroes[:piece]})
		if err := r.Write(&v, off, false, true); err != nil {
			return err
		}
		off += piece
		n -= piece
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

func (r *raw) Close() error { return errors.Join(r.buffers.close(), r.file.Close()) }
