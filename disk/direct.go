package disk

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// alignment is what O_DIRECT asks for in a file: the multiple, in bytes, at which
// offsets and memory begin and end. It asks of memory what the kernel says of
// offsets, too: zram, with blocks of 4096 bytes, says that memory may begin at any
// multiple of 512, and then writes a page to where that page of memory begins
// (Linux 6.18). See statx(2), STATX_DIOALIGN.
func alignment(fd int) (int, error) {
	var s unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &s); err != nil {
		return 0, err
	}
	align := SectorSize // of a kernel before 6.1, or a file system that does not tell
	if s.Mask&unix.STATX_DIOALIGN != 0 {
		align = int(max(s.Dio_mem_align, s.Dio_offset_align, SectorSize))
	}
	if align&(align-1) != 0 || align > bufferSize {
		return 0, fmt.Errorf("its storage has blocks of %d bytes; leave out \"cache=none\"", align)
	}
	return align, nil
}

// coarse reports whether a block of the storage has several sectors.
func (r *raw) coarse() bool { return r.align > SectorSize }

// fits reports whether O_DIRECT can move v to or from off.
func (r *raw) fits(v *memory.Vector, off int64) bool {
	return off&int64(r.align-1) == 0 && v.Aligned(r.align)
}

// misaligned reports whether an error says that it cannot, after all.
func (r *raw) misaligned(err error) bool { return r.direct && err == unix.EINVAL }

// bounceRead reads by way of a buffer, for O_DIRECT whole blocks of the storage.
func (r *raw) bounceRead(v *memory.Vector, off int64) error {
	buf, err := r.buffers.get()
	if err != nil {
		return err
	}
	defer r.buffers.put(buf)
	for !v.Empty() {
		start, from, n, blocks := r.blocks(v, off)
		if err := r.readAt(buf[:blocks], start, from+n); err != nil {
			return err
		}
		v.CopyFrom(buf[from : from+n])
		v.Skip(n)
		off += int64(n)
	}
	return nil
}

// bounceWrite is the counterpart. What goes to a place that is guarded is looked at
// in the buffer, which the guest cannot change.
func (r *raw) bounceWrite(v *memory.Vector, off int64, flags int) error {
	buf, err := r.buffers.get()
	if err != nil {
		return err
	}
	defer r.buffers.put(buf)
	for !v.Empty() {
		n, err := r.bouncePiece(buf, v, off, flags)
		if err != nil {
			return err
		}
		v.Skip(n)
		off += int64(n)
	}
	return nil
}

// bouncePiece writes what fits into a buffer. Where that is not whole blocks, it
// reads them first, and no other write may come in between.
func (r *raw) bouncePiece(buf []byte, v *memory.Vector, off int64, flags int) (int, error) {
	start, from, n, blocks := r.blocks(v, off)
	whole := from == 0 && n == blocks
	if !whole {
		r.partial.Lock()
		defer r.partial.Unlock()
		if err := r.readAt(buf[:blocks], start, blocks); err != nil {
			return 0, err
		}
	}
	v.CopyTo(buf[from : from+n])
	if r.guards(off, int64(n)) {
		if err := r.refuseMagic(buf[from:from+n], off); err != nil {
			return 0, err
		}
	}
	var w memory.Vector
	for w.Set([][]byte{buf[:blocks]}); !w.Empty(); {
		var written int
		var err error
		if whole {
			written, err = r.write(&w, start, flags)
		} else {
			written, err = w.Pwritev(r.fd, start, flags)
		}
		if err != nil {
			return 0, err
		}
		w.Skip(written)
		start += int64(written)
	}
	return n, nil
}

// blocks says how v, as much of it as fits into a buffer, lies in the blocks of the
// storage: these begin at start, and the first n bytes of v from bytes further on.
// Past the page cache only they can be read and written.
func (r *raw) blocks(v *memory.Vector, off int64) (start int64, from, n, size int) {
	align := 1
	if r.direct {
		align = r.align
	}
	from = int(off & int64(align-1))
	n = min(v.Len(), bufferSize-from)
	return off - int64(from), from, n, (from + n + align - 1) &^ (align - 1)
}

// readAt fills buf from off on: at least need bytes of it, of which the file has
// more.
func (r *raw) readAt(buf []byte, off int64, need int) error {
	for got := 0; got < need; {
		n, err := unix.Pread(r.fd, buf[got:], off+int64(got))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the file ends at %d: %w", off+int64(got), unix.EIO)
		default:
			got += n
		}
	}
	return nil
}
