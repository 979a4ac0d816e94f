package kvm

import (
	"fmt"
)

// SetCPUID decides what CPUID says in the guest. It comes before the first
// Run, and before SetMSRs: some registers exist only with their CPUID bit.
// KVM api.rst §4.20, KVM_SET_CPUID2.
func (c *VCPU) SetCPUID(entries []CPUIDEntry) error {
	if len(entries) > maxCPUID {
		return fmt.Errorf("vcpu %d: KVM_SET_CPUID2: %d leaves are more than %d", c.ID, len(entries), maxCPUID)
	}
	arg := &cpuid2{N: uint32(len(entries))}
	copy(arg.Entries[:], entries)
	return set(c, "KVM_SET_CPUID2", reqSetCPUID2, arg)
}

// CPUID reads back what CPUID says in the guest. KVM api.rst §4.20.
func (c *VCPU) CPUID() ([]CPUIDEntry, error) {
	arg := &cpuid2{N: maxCPUID}
	if err := set(c, "KVM_GET_CPUID2", reqGetCPUID2, arg); err != nil {
		return nil, err
	}
	return arg.Entries[:min(arg.N, maxCPUID)], nil
}

// MSREntry is a model-specific register and its value: struct kvm_msr_entry.
type MSREntry struct {
	Index    uint32
	Reserved uint32
	Data     uint64
}

// maxMSRs is how many registers one call takes; KVM's own limit is higher.
const maxMSRs = 256

// msrs is struct kvm_msrs with room for maxMSRs.
type msrs struct {
	N       uint32
	_       uint32
	Entries [maxMSRs]MSREntry
}

// MSRs fills in the Data of each entry from the register of its Index. It
// fails at the first register that KVM refuses. KVM api.rst §4.18.
func (c *VCPU) MSRs(entries []MSREntry) error {
	return c.msrs("KVM_GET_MSRS", reqGetMSRs, entries)
}

// SetMSRs sets each register. It fails at the first that KVM refuses; those
// before it are set. KVM api.rst §4.19.
func (c *VCPU) SetMSRs(entries []MSREntry) error {
	return c.msrs("KVM_SET_MSRS", reqSetMSRs, entries)
}

func (c *VCPU) msrs(op string, req uintptr, entries []MSREntry) error {
	if len(entries) > maxMSRs {
		return fmt.Errorf("vcpu %d: %s: %d registers are more than %d", c.ID, op, len(entries), maxMSRs)
	}
	arg := &msrs{N: uint32(len(entries))}
	copy(arg.Entries[:], entries)
	n, err := ioctlPtr(c.fd, op, req, arg)
	if err != nil {
		return fmt.Errorf("vcpu %d: %w", c.ID, err)
	}
	if n < len(entries) {
		return fmt.Errorf("vcpu %d: %s: KVM refuses register %#x", c.ID, op, entries[n].Index)
	}
	copy(entries, arg.Entries[:])
	return nil
}

// LAPIC is the register page of a local APIC: struct kvm_lapic_state. Intel
// SDM vol. 3 §11.4.1.
type LAPIC struct {
	Regs [1024]byte
}

// LAPIC reads the local APIC's registers. KVM api.rst §4.57.
func (c *VCPU) LAPIC() (LAPIC, error) { return get[LAPIC](c, "KVM_GET_LAPIC", reqGetLAPIC) }

// SetLAPIC sets the local APIC's registers. KVM api.rst §4.58.
func (c *VCPU) SetLAPIC(l LAPIC) error { return set(c, "KVM_SET_LAPIC", reqSetLAPIC, &l) }

// Events are exceptions, interrupts and NMIs on their way into the guest:
// struct kvm_vcpu_events.
type Events struct {
	Exception struct {
		Injected     uint8
		Vector       uint8
		HasErrorCode uint8
		Pending      uint8
		ErrorCode    uint32
	}
	Interrupt struct {
		Injected uint8
		Vector   uint8
		Soft     uint8
		Shadow   uint8
	}
	NMI struct {
		Injected uint8
		Pending  uint8
		Masked   uint8
		_        uint8
	}
	SIPIVector uint32
	Flags      uint32
	SMI        struct {
		SMM          uint8
		Pending      uint8
		SMMInsideNMI uint8
		LatchedInit  uint8
	}
	TripleFault         uint8
	_                   [26]uint8
	ExceptionHasPayload uint8
	ExceptionPayload    uint64
}

// Events reads the events under way. KVM api.rst §4.31.
func (c *VCPU) Events() (Events, error) {
	return get[Events](c, "KVM_GET_VCPU_EVENTS", reqGetVCPUEvents)
}

// SetEvents replaces the events under way. KVM api.rst §4.32.
func (c *VCPU) SetEvents(e Events) error {
	return set(c, "KVM_SET_VCPU_EVENTS", reqSetVCPUEvents, &e)
}

// InjectNMI sends the vCPU a non-maskable interrupt. KVM api.rst §4.64.
func (c *VCPU) InjectNMI() error {
	if _, err := ioctlInt(c.fd, "KVM_NMI", reqNMI, 0); err != nil {
		return fmt.Errorf("vcpu %d: %w", c.ID, err)
	}
	return nil
}

// TSCKHz is the frequency of the guest's time-stamp counter, in kHz.
// KVM api.rst §4.56.
func (c *VCPU) TSCKHz() (uint32, error) {
	n, err := ioctlInt(c.fd, "KVM_GET_TSC_KHZ", reqGetTSCKHz, 0)
	if err != nil {
		return 0, fmt.Errorf("vcpu %d: %w", c.ID, err)
	}
	return uint32(n), nil
}

// SetTSCKHz sets the frequency of the guest's time-stamp counter, in kHz;
// another than the host's needs [CapTSCControl]. KVM api.rst §4.55.
func (c *VCPU) SetTSCKHz(khz uint32) error {
	if _, err := ioctlInt(c.fd, "KVM_SET_TSC_KHZ", reqSetTSCKHz, uintptr(khz)); err != nil {
		return fmt.Errorf("vcpu %d: %w", c.ID, err)
	}
	return nil
}

// PausedClock tells the guest that it has been paused, so that its watchdogs do
// not take the pause for a hang. It fails with EINVAL for a guest that does not
// use kvmclock. KVM api.rst §4.74.
func (c *VCPU) PausedClock() error {
	if _, err := ioctlInt(c.fd, "KVM_KVMCLOCK_CTRL", reqKVMClockCtrl, 0); err != nil {
		return fmt.Errorf("vcpu %d: %w", c.ID, err)
	}
	return nil
}
