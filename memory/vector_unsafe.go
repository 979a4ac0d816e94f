package memory

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Vector is a list of pieces of memory that one system call reads or writes,
// one after the other. It is used again and again without allocating; its zero
// value is empty. See readv(2).
type Vector struct{ iov []unix.Iovec }

// Set makes v the list of pieces.
func (v *Vector) Set(pieces [][]byte) {
	v.iov = v.iov[:0]
	v.Add(pieces)
}

// Add appends pieces.
func (v *Vector) Add(pieces [][]byte) {
	for _, p := range pieces {
		if len(p) > 0 {
			v.iov = append(v.iov, unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))})
		}
	}
}

// Skip drops the first n bytes: those that a system call has dealt with.
func (v *Vector) Skip(n int) {
	i := 0
	for ; i < len(v.iov) && uint64(n) >= v.iov[i].Len; i++ {
		n -= int(v.iov[i].Len)
	}
	v.iov = v.iov[:copy(v.iov, v.iov[i:])]
	if n > 0 && len(v.iov) > 0 {
		v.iov[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(v.iov[0].Base), n))
		v.iov[0].Len -= uint64(n)
	}
}

// Truncate drops all but the first n bytes.
func (v *Vector) Truncate(n uint64) {
	for i := range v.iov {
		if n < v.iov[i].Len {
			v.iov[i].Len = n
			if n > 0 {
				i++
			}
			v.iov = v.iov[:i]
			return
		}
		n -= v.iov[i].Len
	}
}

// Aligned reports whether each piece begins at a multiple of n, a power of two, and
// has a length that is one: what O_DIRECT of open(2) asks for.
func (v *Vector) Aligned(n int) bool {
	for _, e := range v.iov {
		if (uint64(uintptr(unsafe.Pointer(e.Base)))|e.Len)&uint64(n-1) != 0 {
			return false
		}
	}
	return true
}

// Empty reports whether no bytes are left.
func (v *Vector) Empty() bool { return len(v.iov) == 0 }

// maxPieces is how many pieces a system call takes: UIO_MAXIOV.
const maxPieces = 1024

// Readv reads from fd, which does not block, once. See readv(2).
func (v *Vector) Readv(fd int) (int, error) { return v.brief(unix.SYS_READV, fd) }

// Writev writes to fd, which does not block, once. See writev(2).
func (v *Vector) Writev(fd int) (int, error) { return v.brief(unix.SYS_WRITEV, fd) }

// Preadv reads from fd at an offset, once. See preadv2(2) for the flags.
func (v *Vector) Preadv(fd int, off int64, flags int) (int, error) {
	return v.call(unix.SYS_PREADV2, fd, off, flags)
}

// Pwritev writes to fd at an offset, once. See pwritev2(2) for the flags.
func (v *Vector) Pwritev(fd int, off int64, flags int) (int, error) {
	return v.call(unix.SYS_PWRITEV2, fd, off, flags)
}

// brief makes a system call that does not block. It is not announced to Go's
// scheduler, which would wake its monitor thread up to look after it.
func (v *Vector) brief(number uintptr, fd int) (int, error) {
	if len(v.iov) == 0 {
		return 0, nil
	}
	return uninterrupted(func() (uintptr, uintptr, unix.Errno) {
		return unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&v.iov[0])), uintptr(min(len(v.iov), maxPieces)))
	})
}

// call makes a system call that may block. The offset is one 64-bit word here, as
// on every 64-bit architecture; the word for its upper half is not looked at.
func (v *Vector) call(number uintptr, fd int, off int64, flags int) (int, error) {
	if len(v.iov) == 0 {
		return 0, nil
	}
	return uninterrupted(func() (uintptr, uintptr, unix.Errno) {
		return unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&v.iov[0])),
			uintptr(min(len(v.iov), maxPieces)), uintptr(off), 0, uintptr(flags))
	})
}

// uninterrupted makes a system call, and again when a signal interrupts it.
func uninterrupted(call func() (uintptr, uintptr, unix.Errno)) (int, error) {
	for {
		n, _, errno := call()
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// Len is the number of bytes.
func (v *Vector) Len() int {
	n := 0
	for _, e := range v.iov {
		n += int(e.Len)
	}
	return n
}

// CopyFrom copies p into the pieces.
func (v *Vector) CopyFrom(p []byte) {
	for _, e := range v.iov {
		p = p[copy(unsafe.Slice(e.Base, e.Len), p):]
	}
}

// CopyTo copies the pieces into p.
func (v *Vector) CopyTo(p []byte) {
	for _, e := range v.iov {
		p = p[copy(p, unsafe.Slice(e.Base, e.Len)):]
	}
}

// Address is where the list of pieces lies, and how many of them a system call
// takes, for one that the kernel serves later. The vector must stay as it is, and
// be reachable, until then: Go's heap does not move.
func (v *Vector) Address() (addr uintptr, n int) {
	return uintptr(unsafe.Pointer(unsafe.SliceData(v.iov))), min(len(v.iov), maxPieces)
}
