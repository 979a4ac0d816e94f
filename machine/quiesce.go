package machine

import (
	"fmt"
	"strings"
	"time"
)

// pausePatience is how long a pause, and its end, wait for devices.
const pausePatience = 2 * time.Second

// quiesce stops the devices' workers, and waits until they have. Those that take
// longer than patience are named by the error; they stop later. The lock pausing is
// held.
func (m *Machine) quiesce(patience time.Duration) error {
	m.quiesced = true
	return m.eachTransport(patience, transport.Pause)
}

// unquiesce has the devices' workers go on. The lock pausing is held.
func (m *Machine) unquiesce() {
	if !m.quiesced {
		return
	}
	m.quiesced = false
	if err := m.eachTransport(pausePatience, transport.Resume); err != nil {
		m.log.Warn("resumed, but for devices that have yet to finish what they were doing", "error", err)
	}
}

// startDevices has the devices of a machine that was restored go on, unless it is paused:
// then the end of the pause does.
func (m *Machine) startDevices() {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if hold(m.paused.Load())&atRest == 0 {
		m.unquiesce()
	}
}

// eachTransport does something with all virtio devices at once, and waits for it.
func (m *Machine) eachTransport(patience time.Duration, do func(transport)) error {
	done := make(chan string, len(m.transports))
	waiting := map[string]bool{}
	for _, t := range m.transports {
		waiting[t.Name()] = true
		go func() {
			do(t)
			done <- t.Name()
		}()
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for len(waiting) > 0 {
		select {
		case name := <-done:
			delete(waiting, name)
		case <-late.C:
			var names []string
			for _, t := range m.transports {
				if waiting[t.Name()] {
					names = append(names, t.Name())
				}
			}
			return fmt.Errorf("%s did not stop within %v", strings.Join(names, ", "), patience)
		}
	}
	return nil
}
