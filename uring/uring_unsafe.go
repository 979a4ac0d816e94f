package uring

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

func setup(n uint32, p *params) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(n), uintptr(unsafe.Pointer(p)), 0)
	if errno != 0 {
		return -1, errno
	}
	unix.CloseOnExec(int(fd))
	return int(fd), nil
}

func enter(fd int, started, wanted, flags uint32) error {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(started), uintptr(wanted), uintptr(flags), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// restrict has the ring take operations alone, and starts it.
func (r *Ring) restrict() error {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerRestrictions, uintptr(unsafe.Pointer(&operations[0])), uintptr(len(operations)), 0, 0)
	if errno == 0 {
		_, _, errno = unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerEnable, 0, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// mapMemory maps what is shared with the kernel.
func (r *Ring) mapMemory(p *params) (err error) {
	size := max(p.sqArray+4*p.sqEntries, p.cqAnswers+p.cqEntries*uint32(unsafe.Sizeof(answer{})))
	const access, how = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if r.rings, err = unix.Mmap(r.fd, mapRings, int(size), access, how); err != nil {
		return err
	}
	if r.entries, err = unix.Mmap(r.fd, mapRequests, int(p.sqEntries)*int(unsafe.Sizeof(request{})), access, how); err != nil {
		return err
	}
	word := func(offset uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&r.rings[offset])) }
	r.sqHead, r.sqTail, r.cqHead, r.cqTail = word(p.sqHead), word(p.sqTail), word(p.cqHead), word(p.cqTail)
	r.sqMask, r.cqMask = word(p.sqMask).Load(), word(p.cqMask).Load()
	r.requests = unsafe.Slice((*request)(unsafe.Pointer(&r.entries[0])), p.sqEntries)
	r.answers = unsafe.Slice((*answer)(unsafe.Pointer(&r.rings[p.cqAnswers])), p.cqEntries)
	// The ring holds numbers of requests; ours stay in their places.
	for i := range p.sqEntries {
		word(p.sqArray + 4*i).Store(i)
	}
	return nil
}

// address is where a buffer of a ring lies. Go's heap does not move, and the
// ring that holds it outlives the request.
func address(b *[8]byte) uintptr { return uintptr(unsafe.Pointer(b)) }
