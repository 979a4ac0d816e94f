//go:build amd64

package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's struct sigaction. <asm/signal.h>
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// Flags of sigaction(2) that package unix does not have.
const (
	saSiginfo  = 0x4
	saOnStack  = 0x0800_0000
	saRestorer = 0x0400_0000
)

// handle has a signal handled by a function that does not return, on the stack that
// Go gives each thread for signals, with all other signals waiting.
func handle(signal unix.Signal, address uintptr) error {
	a := sigaction{handler: address, flags: saSiginfo | saOnStack | saRestorer, restorer: address, mask: ^uint64(0)}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&a)), 0, unsafe.Sizeof(a.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
