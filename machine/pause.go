package machine

import "time"

// Pause stops the processors and returns when none of them executes the guest's
// instructions any more. Devices finish what they are doing. A machine that is
// paused, or has ended, stays so.
func (m *Machine) Pause() {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.paused.Swap(true) {
		return
	}
	for _, c := range m.cpus {
		c.vcpu.Kick()
	}
	for _, c := range m.cpus {
		for c.inside.Load() && !m.stopping.Load() {
			time.Sleep(10 * time.Microsecond)
		}
	}
}

// Resume has the processors go on.
func (m *Machine) Resume() {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	m.wake.L.Lock()
	defer m.wake.L.Unlock()
	m.paused.Store(false)
	m.wake.Broadcast()
}

// rest waits for the end of a pause, or of the machine.
func (c *cpu) rest(m *Machine) {
	m.wake.L.Lock()
	for m.paused.Load() && !m.stopping.Load() {
		m.wake.Wait()
	}
	m.wake.L.Unlock()
	c.resumed()
}
