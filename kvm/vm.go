package kvm

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// VM is a guest-physical address space, its interrupt controllers and its
// vCPUs. Its methods may be called concurrently; Close comes last.
type VM struct {
	fd       int
	mmapSize int

	routing struct { // the argument of KVM_SET_GSI_ROUTING, used again
		sync.Mutex
		table *irqRouting
	}
}

// Close lets go of the VM. The kernel destroys it when its vCPUs are closed
// as well.
func (v *VM) Close() error { return unix.Close(v.fd) }

// CheckExtension asks for a capability of this VM, which may differ from the
// system's. KVM api.rst §4.4.
func (v *VM) CheckExtension(c Cap) (int, error) {
	return ioctlInt(v.fd, "KVM_CHECK_EXTENSION "+c.String(), reqCheckExtension, uintptr(c))
}

// enableCap is struct kvm_enable_cap.
type enableCap struct {
	Cap   uint32
	Flags uint32
	Args  [4]uint64
	_     [64]byte
}

// EnableCap turns on a capability that is off by default. KVM api.rst §4.37.
func (v *VM) EnableCap(c Cap, args ...uint64) error {
	arg := enableCap{Cap: uint32(c)}
	copy(arg.Args[:], args)
	_, err := ioctlPtr(v.fd, "KVM_ENABLE_CAP "+c.String(), reqEnableCap, &arg)
	return err
}

// ClockData is the guest's kvmclock: struct kvm_clock_data. KVM api.rst §4.29.
type ClockData struct {
	Clock    uint64 // nanoseconds
	Flags    uint32 // which of the other fields hold
	_        uint32
	Realtime uint64 // host's CLOCK_REALTIME at that moment, nanoseconds
	HostTSC  uint64 // host's time-stamp counter at that moment
	_        [4]uint32
}

// Clock reads the guest's kvmclock. KVM api.rst §4.29.
func (v *VM) Clock() (ClockData, error) {
	var c ClockData
	_, err := ioctlPtr(v.fd, "KVM_GET_CLOCK", reqGetClock, &c)
	return c, err
}

// SetClock sets the guest's kvmclock. KVM api.rst §4.30.
func (v *VM) SetClock(c ClockData) error {
	_, err := ioctlPtr(v.fd, "KVM_SET_CLOCK", reqSetClock, &c)
	return err
}

// CreateVCPU adds the vCPU with the given number, which on x86 is also its
// APIC ID. KVM api.rst §4.7.
func (v *VM) CreateVCPU(id int) (*VCPU, error) {
	fd, err := ioctlInt(v.fd, "KVM_CREATE_VCPU", reqCreateVCPU, uintptr(id))
	if err != nil {
		return nil, err
	}
	c := &VCPU{ID: id, fd: fd}
	if err := c.mapRun(v.mmapSize); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func isInterrupted(err error) bool { return errors.Is(err, unix.EINTR) }
