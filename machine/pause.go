package machine

import (
	"errors"
	"fmt"

	"vmm/kvm"
)

// hold is a reason for which processors do not run.
type hold uint32

// The reasons.
const (
	byUser     hold = 1 << iota // Pause
	byDebugger                  // a debugger is at work
	toLook                      // somebody looks at a processor
	toSave                      // the machine is being saved

	// atRest are the reasons for which devices do not work either.
	atRest = byUser | toSave
)

// Pause stops the processors and then the devices, and returns when none of them
// does anything any more: what devices have begun is complete. For a device that waits
// for a disk or a server which does not answer, Pause waits for a while; it stops once
// it can. A machine that is paused, or has ended, stays so.
func (m *Machine) Pause() { m.hold(byUser) }

// Resume has devices and processors go on.
func (m *Machine) Resume() { m.letGo(byUser) }

// hold stops the processors for a reason.
func (m *Machine) hold(why hold) {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.paused.Or(uint32(why)) == 0 {
		m.kick()
	}
	for _, c := range m.cpus {
		m.outside(c) // one may be stepping, while the others are there already
	}
	if why&atRest != 0 {
		if err := m.quiesce(pausePatience); err != nil {
			m.log.Warn("paused, but for devices that are still at work", "error", err)
		}
	}
}

// letGo takes a reason back. The processors go on when there is no other.
func (m *Machine) letGo(why hold) {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if m.paused.And(^uint32(why)); why&atRest != 0 && hold(m.paused.Load())&atRest == 0 {
		m.unquiesce()
	}
	m.wake.L.Lock()
	defer m.wake.L.Unlock()
	m.wake.Broadcast()
}

// resting reports whether a processor is not to enter the guest.
func (m *Machine) resting(c *cpu) bool {
	return m.paused.Load() != 0 && !c.debug.step.Load() || m.held(c) || c.debug.stay.Load()
}

// rest waits for the end of a pause, of another's being alone, or of the
// machine. Meanwhile it does what onCPU asks for.
func (c *cpu) rest(m *Machine) {
	paused := false
	c.wait(m, func() bool {
		paused = paused || m.paused.Load() != 0
		return !m.resting(c)
	})
	if paused {
		c.resumed()
	}
}

// wait waits until over, or the end of the machine. It is called on the vCPU's
// goroutine, outside the guest.
func (c *cpu) wait(m *Machine, over func() bool) {
	m.wake.L.Lock()
	defer m.wake.L.Unlock()
	for !over() && !m.stopping.Load() {
		if job := c.job; job != nil {
			c.job = nil
			m.wake.L.Unlock()
			job.done <- c.look(m, job)
			m.wake.L.Lock()
			continue
		}
		m.wake.Wait()
	}
}

// job is something to do on a vCPU's goroutine.
type job struct {
	do   func(*cpu) error
	done chan error
}

// look does a job, with the last exit completed: until then the registers are
// not the guest's. KVM api.rst §5, kvm_run.
func (c *cpu) look(m *Machine, j *job) error {
	if err := c.vcpu.Complete(func(e kvm.Exit) error { return c.serve(m, e) }); err != nil {
		return err
	}
	return j.do(c)
}

var errEnded = errors.New("the machine has ended")

// onCPU has a processor's own goroutine do something, for which the processors
// are held if they are not already: KVM wants a vCPU's state asked for by the
// thread that runs it.
func (m *Machine) onCPU(i int, do func(*cpu) error) error {
	if i < 0 || i >= len(m.cpus) {
		return fmt.Errorf("there is no vCPU %d: the machine has %d, and they count from 0", i, len(m.cpus))
	}
	m.looking.Lock()
	defer m.looking.Unlock()
	m.hold(toLook)
	defer m.letGo(toLook)
	j := &job{do: do, done: make(chan error, 1)}
	m.wake.L.Lock()
	m.cpus[i].job = j
	m.wake.Broadcast()
	m.wake.L.Unlock()
	select {
	case err := <-j.done:
		return err
	case <-m.stopped:
		m.wake.L.Lock()
		waiting := m.cpus[i].job == j
		m.cpus[i].job = nil
		m.wake.L.Unlock()
		if !waiting { // it is being done
			return <-j.done
		}
		return errEnded
	}
}
