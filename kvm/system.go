package kvm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Device is the file through which the kernel offers KVM.
const Device = "/dev/kvm"

// apiVersion is the only version of the interface there has been since Linux
// 2.6.22; programs are to refuse any other. KVM api.rst §4.1.
const apiVersion = 12

// System is an open /dev/kvm. Its methods may be called concurrently.
type System struct {
	fd       int
	mmapSize int // of a vCPU's shared page, in bytes
}

// Open opens /dev/kvm and checks the version of its interface. The error is an
// *os.PathError where there is no KVM (ENOENT), or none for this user (EACCES).
func Open() (*System, error) {
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: Device, Err: err}
	}
	s := &System{fd: fd}
	version, err := ioctlInt(fd, "KVM_GET_API_VERSION", reqGetAPIVersion, 0)
	if errors.Is(err, unix.ENOTTY) {
		err = fmt.Errorf("%w: %s is not the device of KVM; remove it and load KVM's module anew", err, Device)
	}
	if err == nil && version != apiVersion {
		err = fmt.Errorf("%s speaks version %d of the KVM interface, not %d; use a newer kernel on the host", Device, version, apiVersion)
	}
	if err == nil {
		s.mmapSize, err = ioctlInt(fd, "KVM_GET_VCPU_MMAP_SIZE", reqGetVCPUMmapSize, 0)
	}
	if err == nil && s.mmapSize < runSize {
		err = fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %d bytes are less than struct kvm_run", s.mmapSize)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes /dev/kvm. VMs created through it live on.
func (s *System) Close() error { return unix.Close(s.fd) }

// APIVersion is the version of the interface: 12. KVM api.rst §4.1.
func (s *System) APIVersion() int { return apiVersion }

// CheckExtension asks for a capability: 0 where the host lacks it, else 1 or
// a number whose meaning depends on the capability. KVM api.rst §4.4.
func (s *System) CheckExtension(c Cap) (int, error) {
	return ioctlInt(s.fd, "KVM_CHECK_EXTENSION "+c.String(), reqCheckExtension, uintptr(c))
}

// Require fails unless the host has every one of caps; the error names the
// first that is missing.
func (s *System) Require(caps ...Cap) error {
	for _, c := range caps {
		n, err := s.CheckExtension(c)
		if err != nil {
			return err
		}
		if n == 0 {
			return &MissingError{c}
		}
	}
	return nil
}

// MissingError says that the host's KVM lacks a capability.
type MissingError struct{ Cap Cap }

func (e *MissingError) Error() string {
	return "this host's KVM lacks " + e.Cap.String() + ", which vmm needs; use a newer kernel on the host (Linux 4.12 or later)"
}

// MaxVCPUs is the largest number of vCPUs that a VM may have. KVM api.rst §4.7.
func (s *System) MaxVCPUs() (int, error) {
	n, err := s.CheckExtension(CapMaxVCPUs)
	if err != nil || n > 0 {
		return n, err
	}
	// "If the KVM_CAP_MAX_VCPUS does not exist, you should assume that it is
	// the same as KVM_CAP_NR_VCPUS."
	return s.CheckExtension(CapRecommendedVCPUs)
}

// CreateVM makes a VM without vCPUs or memory. KVM api.rst §4.2. EINTR does
// not reach the caller: a signal here means nothing but "again".
func (s *System) CreateVM() (*VM, error) {
	for {
		fd, err := ioctlInt(s.fd, "KVM_CREATE_VM", reqCreateVM, 0)
		if isInterrupted(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &VM{fd: fd, mmapSize: s.mmapSize}, nil
	}
}
