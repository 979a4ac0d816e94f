// Package uring has many reads and writes of files under way at once, with one
// thread: io_uring, of Linux 5.10 and later. See io_uring(7).
//
// Some hosts and container runtimes forbid io_uring; New fails there, and its
// user goes on without.
package uring

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// Ring is a ring of requests to the kernel and one of its answers. It is for one
// goroutine.
type Ring struct {
	fd      int
	rings   []byte // shared with the kernel: both rings
	entries []byte // and the requests

	sqHead, sqTail *atomic.Uint32 // of the requests: the kernel's, ours
	cqHead, cqTail *atomic.Uint32 // of the answers: ours, the kernel's
	sqMask, cqMask uint32
	requests       []request
	answers        []answer

	limit  int // of what may be under way
	flying int // started and not answered
	wake   int // an eventfd
	armed  bool
	count  [8]byte // what is read from the eventfd
}

// Flags of io_uring and numbers of its operations. <linux/io_uring.h>
const (
	opReadv  = 1
	opWritev = 2
	opRead   = 22

	setupDisabled     = 1 << 6
	featureSingleMmap = 1 << 0
	enterGetEvents    = 1 << 0

	registerRestrictions = 11
	registerEnable       = 12
	restrictOp           = 1

	mapRings    = 0
	mapRequests = 0x1000_0000

	// wakeToken marks the answer that says that the eventfd was signalled.
	wakeToken = ^uint64(0)
)

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags      uint32
	sqThreadCPU, sqThreadIdle        uint32
	features, wqFD                   uint32
	_                                [3]uint32
	sqHead, sqTail, sqMask, sqNumber uint32 // offsets in the mapping
	sqFlags, sqDropped, sqArray, _   uint32
	_                                uint64
	cqHead, cqTail, cqMask, cqNumber uint32
	cqOverflow, cqAnswers, cqFlags   uint32
	_                                uint32
	_                                uint64
}

// request is struct io_uring_sqe.
type request struct {
	op      uint8
	flags   uint8
	ioprio  uint16
	fd      int32
	off     uint64
	addr    uint64
	len     uint32
	rwFlags uint32
	token   uint64
	_       [3]uint64
}

// answer is struct io_uring_cqe.
type answer struct {
	token  uint64
	result int32
	flags  uint32
}

// restriction is struct io_uring_restriction: an operation that a ring takes.
type restriction struct {
	kind uint16
	op   uint8
	_    uint8
	_    [3]uint32
}

// operations are all that a ring takes, whoever gets hold of it: io_uring has
// counterparts of many system calls, which no filter of system calls sees.
var operations = []restriction{
	{kind: restrictOp, op: opReadv}, {kind: restrictOp, op: opWritev}, {kind: restrictOp, op: opRead},
}

// New returns a ring for at most n requests under way.
func New(n int) (*Ring, error) {
	p := params{flags: setupDisabled}
	// One more, for the eventfd.
	fd, err := setup(uint32(n+1), &p)
	if err != nil {
		return nil, fmt.Errorf("io_uring_setup: %w", err)
	}
	r := &Ring{fd: fd, wake: -1, limit: n}
	if p.features&featureSingleMmap == 0 {
		r.Close()
		return nil, fmt.Errorf("io_uring: %w: this kernel's is an early one", unix.EOPNOTSUPP)
	}
	if err := r.mapMemory(&p); err != nil {
		r.Close()
		return nil, fmt.Errorf("io_uring: %w", err)
	}
	if err := r.restrict(); err != nil {
		r.Close()
		return nil, fmt.Errorf("io_uring_register: %w; rings with restrictions are in Linux 5.10 and later", err)
	}
	return r, nil
}

// Watch has Wait wait for an eventfd as well, once it is armed: see Arm.
func (r *Ring) Watch(eventfd int) { r.wake = eventfd }

// Read starts to read into v from an offset of a file, Write to write. Wait says
// how it went, under the token. The vector and its memory must stay as they are
// until then. See preadv2(2) for the flags. Both return false, and start nothing,
// when as many requests are under way as New was told.
func (r *Ring) Read(fd int, v *memory.Vector, off int64, flags int, token uint64) bool {
	return r.start(opReadv, fd, v, off, flags, token)
}

// Write is the counterpart of Read.
func (r *Ring) Write(fd int, v *memory.Vector, off int64, flags int, token uint64) bool {
	return r.start(opWritev, fd, v, off, flags, token)
}

func (r *Ring) start(op uint8, fd int, v *memory.Vector, off int64, flags int, token uint64) bool {
	if r.flying == r.limit {
		return false
	}
	addr, n := v.Address()
	r.put(request{op: op, fd: int32(fd), off: uint64(off), addr: uint64(addr), len: uint32(n), rwFlags: uint32(flags), token: token})
	r.flying++
	return true
}

// put puts a request into the ring. There is always room: what the kernel has not
// taken yet is under way, too, so there are at most limit requests in it, and one for the
// eventfd.
func (r *Ring) put(q request) {
	tail := r.sqTail.Load()
	r.requests[tail&r.sqMask] = q
	r.sqTail.Store(tail + 1) // after the request
}

// Arm makes the next signal of the eventfd the ring's: it ends a Wait, and whoever
// else waits for it may miss it.
func (r *Ring) Arm() {
	if !r.armed {
		r.armed = true
		r.put(request{op: opRead, fd: int32(r.wake), addr: uint64(address(&r.count)), len: uint32(len(r.count)), token: wakeToken})
	}
}

// Busy reports whether the ring has something to wait for: requests under way, or
// the eventfd's signal.
func (r *Ring) Busy() bool { return r.flying > 0 || r.armed }

// Wait waits until a request has been answered or the eventfd, if armed, been
// signalled, and calls done for each request that was: with the number of bytes
// moved, or the error. The ring must be busy.
func (r *Ring) Wait(done func(token uint64, n int, err error)) {
	for {
		started := r.sqTail.Load() - r.sqHead.Load()
		err := enter(r.fd, started, 1, enterGetEvents)
		if r.cqHead.Load() != r.cqTail.Load() {
			break
		}
		if err != nil && err != unix.EINTR && err != unix.EAGAIN && err != unix.EBUSY {
			panic(fmt.Sprintf("io_uring_enter: %v", err)) // a wrong argument: ours
		}
	}
	for head := r.cqHead.Load(); head != r.cqTail.Load(); {
		a := r.answers[head&r.cqMask]
		head++
		r.cqHead.Store(head) // after the answer was read
		switch {
		case a.token == wakeToken:
			r.armed = false
		case a.result < 0:
			r.flying--
			done(a.token, 0, unix.Errno(-a.result))
		default:
			r.flying--
			done(a.token, int(a.result), nil)
		}
	}
}

// Close lets go of the ring. It must not be busy.
func (r *Ring) Close() {
	for _, m := range [][]byte{r.rings, r.entries} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	unix.Close(r.fd)
}
