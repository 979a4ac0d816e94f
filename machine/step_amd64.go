package machine

import (
	"errors"
	"time"

	"vmm/probe"
)

var (
	errNotPaused = errors.New("the machine runs: pause it first")
	errDebugged  = errors.New("gdb has the machine: let gdb step, or detach it")
	// ErrWaits says that a step has not come to an end: the instruction waits.
	ErrWaits = errors.New("the vCPU waits, at HLT perhaps, and no interrupt came: let the machine go on")
)

// stepFor is how long an instruction may take.
const stepFor = time.Second

// Step has a vCPU of a paused machine execute one instruction, while the others
// stay where they are. Interrupts that are due wait until the machine goes on.
// It is one way to move a vCPU, a Debugger the other, and they exclude each other.
func (m *Machine) Step(id int) error {
	m.stepping.Lock()
	defer m.stepping.Unlock()
	switch {
	case m.debugged.Load():
		return errDebugged
	case !m.Paused():
		return errNotPaused
	}
	stepped := make(chan struct{})
	err := m.onCPU(id, func(c *cpu) error {
		c.debug.step.Store(true)
		c.probes.Step(func(*probe.Hit) {
			c.debug.step.Store(false)
			close(stepped)
		})
		return nil
	})
	if err != nil {
		return err
	}
	late := time.NewTimer(stepFor)
	defer late.Stop()
	select {
	case <-stepped:
		return nil
	case <-m.stopped:
		return errEnded
	case <-late.C:
	}
	c := m.cpus[id]
	c.debug.step.Store(false)
	c.vcpu.Kick()
	return m.onCPU(id, func(c *cpu) error {
		select {
		case <-stepped: // at the last moment
			return nil
		default:
		}
		c.probes.Step(nil)
		return ErrWaits
	})
}
