//go:build amd64

package kvm

import (
	"fmt"
	"unsafe"
)

// deviceAttr is struct kvm_device_attr. Addr is a pointer in Go, too: when a stack moves
// with what it leads to, the address follows.
type deviceAttr struct {
	Flags uint32
	Group uint32
	Attr  uint64
	Addr  unsafe.Pointer
}

// The attribute of a vCPU with the offset of its time-stamp counter. KVM
// Documentation/virt/kvm/devices/vcpu.rst, "KVM_VCPU_TSC_CTRL".
const (
	tscControl = 0
	tscOffset  = 0
)

// TSCOffset is what is added to the host's time-stamp counter to make the guest's.
func (c *VCPU) TSCOffset() (uint64, error) {
	var offset uint64
	err := c.tscAttr("KVM_GET_DEVICE_ATTR", reqGetDeviceAttr, &offset)
	return offset, err
}

// SetTSCOffset sets what is added to the host's time-stamp counter.
func (c *VCPU) SetTSCOffset(offset uint64) error {
	return c.tscAttr("KVM_SET_DEVICE_ATTR", reqSetDeviceAttr, &offset)
}

func (c *VCPU) tscAttr(op string, req uintptr, offset *uint64) error {
	arg := deviceAttr{Group: tscControl, Attr: tscOffset, Addr: unsafe.Pointer(offset)}
	_, err := ioctlPtr(c.fd, op, req, &arg)
	if err != nil {
		return fmt.Errorf("vcpu %d: TSC offset: %w", c.ID, err)
	}
	return nil
}
