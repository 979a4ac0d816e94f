package kvm

import "fmt"

// minXState is the size of struct kvm_xsave before it grew: what KVM has without
// [CapXSave2], in bytes.
const minXState = 4096

// XStateSize is the size of a vCPU's extended state, in bytes. KVM api.rst §4.42,
// KVM_CAP_XSAVE2.
func (v *VM) XStateSize() (int, error) {
	n, err := v.CheckExtension(CapXSave2)
	return max(n, minXState), err
}

// XState reads all of the extended state, size bytes of it: see [VM.XStateSize]. KVM
// api.rst §4.134, KVM_GET_XSAVE2.
func (c *VCPU) XState(size int) ([]byte, error) {
	op, req := "KVM_GET_XSAVE", uintptr(reqGetXSave)
	if size > minXState {
		op, req = "KVM_GET_XSAVE2", reqGetXSave2
	}
	state := make([]byte, max(size, minXState))
	return state, set(c, op, req, &state[0])
}

// SetXState sets all of the extended state, which must be of the VM's
// [VM.XStateSize]. KVM api.rst §4.43.
func (c *VCPU) SetXState(state []byte) error {
	if len(state) < minXState {
		return fmt.Errorf("vcpu %d: KVM_SET_XSAVE: %d bytes", c.ID, len(state))
	}
	return set(c, "KVM_SET_XSAVE", reqSetXSave, &state[0])
}

// ReadableMSRs are those of the registers that KVM lets be read, with their values.
func (c *VCPU) ReadableMSRs(indices []uint32) ([]MSREntry, error) {
	var all []MSREntry
	for len(indices) > 0 {
		arg := &msrs{N: uint32(min(len(indices), maxMSRs))}
		for i := range arg.N {
			arg.Entries[i].Index = indices[i]
		}
		n, err := ioctlPtr(c.fd, "KVM_GET_MSRS", reqGetMSRs, arg)
		if err != nil {
			return nil, fmt.Errorf("vcpu %d: %w", c.ID, err)
		}
		all = append(all, arg.Entries[:n]...)
		if n < int(arg.N) {
			n++ // KVM stops at one that it refuses
		}
		indices = indices[n:]
	}
	return all, nil
}

// RefusedMSRError is a register that KVM does not let be set.
type RefusedMSRError struct {
	VCPU int
	MSREntry
}

func (e *RefusedMSRError) Error() string {
	return fmt.Sprintf("vcpu %d: KVM_SET_MSRS: KVM refuses %#x for register %#x", e.VCPU, e.Data, e.Index)
}

// RestoreMSRs sets registers of which KVM may refuse some: of those that have the
// value already nothing is said, another is a [*RefusedMSRError].
func (c *VCPU) RestoreMSRs(entries []MSREntry) error {
	for len(entries) > 0 {
		arg := &msrs{N: uint32(min(len(entries), maxMSRs))}
		copy(arg.Entries[:], entries)
		n, err := ioctlPtr(c.fd, "KVM_SET_MSRS", reqSetMSRs, arg)
		if err != nil {
			return fmt.Errorf("vcpu %d: %w", c.ID, err)
		}
		if n < int(arg.N) {
			now := []MSREntry{{Index: entries[n].Index}}
			if err := c.MSRs(now); err != nil || now[0].Data != entries[n].Data {
				return &RefusedMSRError{c.ID, entries[n]}
			}
			n++
		}
		entries = entries[n:]
	}
	return nil
}

// ClockRealtime is the flag of ClockData for its field Realtime. With it, SetClock
// adds the time that has passed since. KVM api.rst §4.29.
const ClockRealtime = 1 << 2
