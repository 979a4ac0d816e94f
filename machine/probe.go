package machine

import (
	"time"

	"vmm/kvm"
	"vmm/probe"
)

// Probes are the machine's probes; there are none at first, and then they cost
// nothing. They may be changed before, during and after Run.
func (m *Machine) Probes() *probe.Set { return m.probes }

// addProbes comes when all processors are there.
func (m *Machine) addProbes() {
	m.probes = probe.NewSet(m.memory, m.alone, m.kick)
	for _, c := range m.cpus {
		c.probes = m.probes.CPU(c.vcpu)
	}
}

// probePort serves a write to the port of probes, which may be the guest's own.
func (c *cpu) probePort(m *Machine, io kvm.IO) error {
	at := time.Now()
	defer m.timeline.Cost(at, 1)
	probed, err := c.probes.Port(at)
	if err == nil && !probed {
		c.portIO(m, io)
	}
	return err
}

// kick makes each processor leave the guest once.
func (m *Machine) kick() {
	for _, c := range m.cpus {
		c.vcpu.Kick()
	}
}

// outside waits until a processor that has been kicked, and has a reason not to
// enter the guest again, is outside.
func (m *Machine) outside(c *cpu) {
	for c.inside.Load() && !m.stopping.Load() {
		time.Sleep(10 * time.Microsecond)
	}
}

// alone keeps every other processor than vcpu outside the guest until release.
// Of several that want to be alone, one is at a time.
func (m *Machine) alone(vcpu *kvm.VCPU) (release func()) {
	m.wake.L.Lock()
	for m.only.Load() != nil && !m.stopping.Load() {
		m.wake.Wait()
	}
	m.only.Store(vcpu)
	m.wake.L.Unlock()
	for _, c := range m.cpus {
		if c.vcpu != vcpu {
			c.vcpu.Kick()
			m.outside(c)
		}
	}
	return func() {
		m.wake.L.Lock()
		defer m.wake.L.Unlock()
		m.only.Store(nil)
		m.wake.Broadcast()
	}
}

// held reports whether another processor is to be alone.
func (m *Machine) held(c *cpu) bool {
	only := m.only.Load()
	return only != nil && only != c.vcpu
}
