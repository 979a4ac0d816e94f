package machine

import (
	"errors"
	"testing"
	"time"

	"vmm/gdb"
	"vmm/kvm"
	"vmm/probe"
)

// at is where a vCPU is.
func (m *Machine) at(t *testing.T, id int) (rip uint64) {
	t.Helper()
	must(t, m.onCPU(id, func(c *cpu) error {
		var r kvm.Regs
		r, err := c.vcpu.Regs()
		rip = r.RIP
		return err
	}))
	return rip
}

// One vCPU of a paused machine moves, an instruction at a time, also over a probe,
// and the machine stays paused.
func TestStep(t *testing.T) {
	m := newMachine(t, loop, func(c *Config) { c.CPUs = 2 })
	m.Pause()
	end := start(t, m)
	hits := 0
	must(t, m.probes.Insert(&probe.Probe{Kind: probe.Port, Addr: entryAddr + 2, Hit: func(*probe.Hit) { hits++ }}))
	for i := range 9 {
		want := entryAddr + []uint64{2, 9, 0}[i%3]
		must(t, m.Step(0))
		if at := m.at(t, 0); at != want {
			t.Fatalf("step %d led to %#x; want %#x", i, at, want)
		}
		if !m.Paused() {
			t.Fatal("it is not paused any more")
		}
	}
	if hits != 3 {
		t.Errorf("the probe was hit %d times; want 3", hits)
	}
	if err := m.Step(2); err == nil {
		t.Error("there is a vCPU too many")
	}
	m.Resume()
	if err := m.Step(0); !errors.Is(err, errNotPaused) {
		t.Errorf("of a machine that runs: %v", err)
	}
	end()
}

// A vCPU that waits keeps nobody waiting: here, for the guest to start it. (What
// KVM does about HLT in a single step differs.)
func TestStepThatWaits(t *testing.T) {
	m := newMachine(t, []byte{0xeb, 0xfe}, func(c *Config) { c.CPUs = 2 })
	m.Pause()
	end := start(t, m)
	began := time.Now()
	for range 2 {
		if err := m.Step(1); !errors.Is(err, ErrWaits) {
			t.Errorf("%v; want that it waits", err)
		}
	}
	if took := time.Since(began); took > 10*stepFor {
		t.Errorf("it took %v", took)
	}
	must(t, m.Step(0))
	end()
	if err := m.Step(0); !errors.Is(err, errEnded) && !errors.Is(err, errNotPaused) {
		t.Errorf("of a machine that has ended: %v", err)
	}
}

// gdb and Step keep out of each other's way.
func TestStepBesideGDB(t *testing.T) {
	m := newMachine(t, loop, nil)
	m.Pause()
	end := start(t, m)
	must(t, m.Step(0))
	d := debug(t, m)
	if err := m.Step(0); !errors.Is(err, errDebugged) {
		t.Errorf("with a debugger: %v", err)
	}
	// The user's pause counts for gdb, too.
	must(t, d.Resume([]gdb.Action{gdb.Step}))
	d.Halt()
	d.Detach()
	if at := m.at(t, 0); at != entryAddr+2 {
		t.Errorf("it moved to %#x", at)
	}
	m.Resume()
	end()
}
