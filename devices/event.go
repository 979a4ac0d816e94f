package devices

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Event is an eventfd: a count of signals that a thread can wait for, and that
// KVM can both raise (a guest's doorbell) and wait for (an Interrupt). It may be
// used concurrently, except for Close. See eventfd(2).
type Event struct{ fd int }

// NewEvent returns an event that has not been signalled.
func NewEvent() (*Event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Event{fd}, nil
}

// FD is the file descriptor, for handing it to KVM.
func (e *Event) FD() int { return e.fd }

// Signal wakes a Wait, now or in future.
func (e *Event) Signal() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It can fail only when the count is about to overflow: signalled enough.
	_, _ = unix.Write(e.fd, one[:])
}

// Wait blocks until the event has been signalled since the last Wait. The
// thread waits in the kernel, and not the goroutine in Go's poller: one wake-up
// less between a doorbell and the work.
func (e *Event) Wait() {
	var count [8]byte
	for {
		if _, err := unix.Read(e.fd, count[:]); err != unix.EINTR {
			return
		}
	}
}

// Close lets go of the event. Nobody may be waiting for it.
func (e *Event) Close() error { return unix.Close(e.fd) }
