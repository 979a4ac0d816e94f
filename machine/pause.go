package machine

// Pause stops the processors and returns when none of them executes the guest's
// instructions any more. Devices finish what they are doing. A machine that is
// paused, or has ended, stays so.
func (m *Machine) Pause() {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.paused.Swap(true) {
		return
	}
	m.kick()
	for _, c := range m.cpus {
		m.outside(c)
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

// rest waits for the end of a pause, of another's being alone, or of the
// machine.
func (c *cpu) rest(m *Machine) {
	paused := false
	m.wake.L.Lock()
	for (m.paused.Load() || m.held(c)) && !m.stopping.Load() {
		paused = paused || m.paused.Load()
		m.wake.Wait()
	}
	m.wake.L.Unlock()
	if paused {
		c.resumed()
	}
}
