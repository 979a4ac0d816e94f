package machine

import (
	"sync"
	"time"
)

// startSampling looks where the processors are, as often as the profile wants,
// until the function that it returns is called.
func (m *Machine) startSampling() (stop func()) {
	if m.profile == nil {
		return func() {}
	}
	tick := time.NewTicker(time.Second / time.Duration(m.profile.Rate))
	done := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			select {
			case <-tick.C:
				// Each takes its sample when it has left the guest.
				for _, c := range m.cpus {
					c.sampled.Store(true)
					c.vcpu.Kick()
				}
			case <-done:
				return
			}
		}
	})
	return func() {
		tick.Stop()
		close(done)
		sampler.Wait()
	}
}
