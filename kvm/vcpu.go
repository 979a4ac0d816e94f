package kvm

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// VCPU is a processor of a VM. Its methods belong to one goroutine, the one
// that has called LockThread: KVM ties a vCPU to a thread. Only Kick may be
// called from elsewhere.
type VCPU struct {
	// ID is the number it was created with.
	ID int

	fd  int
	run []byte // struct kvm_run, shared with the kernel

	// request is the first word of struct kvm_run, whose second byte is
	// immediate_exit. It is written from other threads, and the smallest
	// thing Go writes atomically is 32 bits; the other bytes of the word
	// (request_interrupt_window and padding) stay 0.
	request *atomic.Uint32

	tid atomic.Int32 // of the locked thread; 0 before LockThread
}

// immediateExit is the byte immediate_exit in the request word.
const immediateExit = 1 << 8

// LockThread ties the calling goroutine to its thread, and the vCPU to both,
// so that Kick knows whom to interrupt. The goroutine must not unlock the
// thread again; when it ends, the thread ends.
func (c *VCPU) LockThread() {
	runtime.LockOSThread()
	c.tid.Store(int32(unix.Gettid()))
}

// Run lets the guest run until something needs attention. The Exit is valid
// until the next Run.
//
// A signal, a Kick or the guest's start of this processor ends it with reason
// [ExitInterrupted], and with no error.
// KVM api.rst §4.10.
func (c *VCPU) Run() (Exit, error) {
	if errno := c.enter(); errno != 0 {
		// EAGAIN: a processor that the guest has not started yet was woken.
		// In both cases exit_reason is stale.
		if errno == unix.EINTR || errno == unix.EAGAIN {
			return Exit{Reason: ExitInterrupted, run: c.run}, nil
		}
		return Exit{}, fmt.Errorf("vcpu %d: KVM_RUN: %w", c.ID, errno)
	}
	return Exit{Reason: ExitReason(le.Uint32(c.run[runExitReason:])), run: c.run}, nil
}

// Kick makes the current Run return, or the next one if none is under way. It
// may be called from any goroutine, before or after the vCPU has ended.
//
// The order matters: the flag first, for a vCPU about to enter the guest, then
// the signal, for one that is inside. SIGURG is the signal that Go's runtime
// sends its own threads, and so handles at any moment.
func (c *VCPU) Kick() {
	c.request.Store(immediateExit)
	if tid := c.tid.Load(); tid != 0 {
		// ESRCH, the only error there can be, is a thread that has ended.
		_ = unix.Tgkill(unix.Getpid(), int(tid), unix.SIGURG)
	}
}

// ClearKick makes Run enter the guest again after a Kick. The vCPU's own
// goroutine calls it and then looks at what it was kicked for; a Kick that
// comes between the two is kept for the next Run.
func (c *VCPU) ClearKick() { c.request.Store(0) }

// CompleteExit finishes the instruction behind the last exit without running
// the guest further: a port or MMIO read takes effect only when the vCPU is
// entered again, and until then its registers are not the guest's. It leaves
// the vCPU as a Kick does, so that no Kick is lost: ClearKick before the next
// Run. KVM api.rst §5, immediate_exit and mmio.
func (c *VCPU) CompleteExit() error {
	c.request.Store(immediateExit)
	if errno := c.enter(); errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("vcpu %d: KVM_RUN to complete an exit: %w", c.ID, errno)
	}
	return nil
}

// Complete is CompleteExit for an instruction that may need more than one exit, such as
// a string instruction or an access across pages: serve serves those that follow.
func (c *VCPU) Complete(serve func(Exit) error) error {
	for {
		c.request.Store(immediateExit)
		switch errno := c.enter(); errno {
		case 0:
			if err := serve(Exit{Reason: ExitReason(le.Uint32(c.run[runExitReason:])), run: c.run}); err != nil {
				return err
			}
		case unix.EINTR, unix.EAGAIN:
			return nil
		default:
			return fmt.Errorf("vcpu %d: KVM_RUN to complete an exit: %w", c.ID, errno)
		}
	}
}

// enter is KVM_RUN without an allocation: errors are bare, for EINTR is
// ordinary.
func (c *VCPU) enter() unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), reqRun, 0)
	return errno
}

// get reads a piece of the vCPU's state.
func get[T any](c *VCPU, op string, req uintptr) (T, error) {
	var v T
	err := set(c, op, req, &v)
	return v, err
}

// set hands the kernel a piece of the vCPU's state; some ioctls change it.
func set[T any](c *VCPU, op string, req uintptr, v *T) error {
	if _, err := ioctlPtr(c.fd, op, req, v); err != nil {
		return fmt.Errorf("vcpu %d: %w", c.ID, err)
	}
	return nil
}

// MPState is what a vCPU is doing, as far as starting and halting goes.
type MPState uint32

// Values of MPState, from <linux/kvm.h>.
const (
	MPRunnable      MPState = 0
	MPUninitialized MPState = 1 // an application processor before INIT
	MPInitReceived  MPState = 2 // waits for a start-up IPI
	MPHalted        MPState = 3
	MPSIPIReceived  MPState = 4
)

// MPState reads the vCPU's state. KVM api.rst §4.38.
func (c *VCPU) MPState() (MPState, error) {
	return get[MPState](c, "KVM_GET_MP_STATE", reqGetMPState)
}

// SetMPState sets the vCPU's state. KVM api.rst §4.39.
func (c *VCPU) SetMPState(s MPState) error {
	return set(c, "KVM_SET_MP_STATE", reqSetMPState, &s)
}

// Close unmaps the shared page and lets go of the vCPU. Run must have
// returned for the last time, and Kick must not be called any more.
func (c *VCPU) Close() error {
	err := unix.Munmap(c.run)
	if e := unix.Close(c.fd); err == nil {
		err = e
	}
	c.run = nil
	return err
}
