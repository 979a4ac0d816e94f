package kvm

import (
	"fmt"
	"syscall"
	"unsafe"
)

// ioctlInt issues an ioctl whose argument is a number. It returns the ioctl's
// result, or an error that names op.
//
// [syscall.Syscall] and not RawSyscall: some of these calls block, and Go's
// scheduler has to know. EINTR is returned and never retried, for it carries
// meaning at KVM_RUN.
func ioctlInt(fd int, op string, req, arg uintptr) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req, arg)
	if errno != 0 {
		return 0, fmt.Errorf("%s: %w", op, errno)
	}
	return int(n), nil
}

// ioctlPtr issues an ioctl whose argument is the address of a structure that
// the kernel reads, fills, or both. The pointer turns into a uintptr only
// inside the Syscall expression: that is what keeps arg alive and in place.
func ioctlPtr[T any](fd int, op string, req uintptr, arg *T) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(arg)))
	if errno != 0 {
		return 0, fmt.Errorf("%s: %w", op, errno)
	}
	return int(n), nil
}
