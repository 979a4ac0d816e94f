package kvm

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapRun maps struct kvm_run, the page that the kernel and the vCPU's thread
// share. KVM api.rst §5.
func (c *VCPU) mapRun(size int) error {
	run, err := unix.Mmap(c.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("vcpu %d: map struct kvm_run: %w", c.ID, err)
	}
	c.run = run
	c.request = (*atomic.Uint32)(unsafe.Pointer(&run[0]))
	return nil
}
