package machine

import "vmm/kvm"

// sample adds where the vCPU is to the profile.
func (c *cpu) sample(m *Machine) error {
	if m.profile == nil {
		return nil
	}
	state, err := c.vcpu.MPState()
	if err != nil || state == kvm.MPUninitialized || state == kvm.MPInitReceived {
		return err // it has not been started
	}
	regs, err := c.vcpu.Regs()
	if err != nil {
		return err
	}
	s, err := c.vcpu.Sregs()
	if err != nil {
		return err
	}
	m.profile.Add(c.vcpu.ID, s.CS.Selector&3 == 3, regs.RIP)
	return nil
}
