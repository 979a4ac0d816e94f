package kvm

// DebugControl says which debugging events of the guest come to vmm as
// [ExitDebug] instead of to the guest.
type DebugControl uint32

// Bits of DebugControl, from <linux/kvm.h> and <asm/kvm.h>.
const (
	DebugEnable     DebugControl = 1 << 0
	DebugSingleStep DebugControl = 1 << 1
	DebugSoftware   DebugControl = 1 << 16 // INT3
	DebugHardware   DebugControl = 1 << 17 // addresses in GuestDebug.Regs
	DebugBlockIRQ   DebugControl = 1 << 20 // no interrupts while stepping
)

// GuestDebug is struct kvm_guest_debug.
type GuestDebug struct {
	Control DebugControl
	_       uint32
	// Regs are the debug registers DR0-DR7 to use with DebugHardware.
	Regs [8]uint64
}

// SetGuestDebug chooses the debugging events. KVM api.rst §4.87.
func (c *VCPU) SetGuestDebug(d GuestDebug) error {
	return set(c, "KVM_SET_GUEST_DEBUG", reqSetGuestDebug, &d)
}
