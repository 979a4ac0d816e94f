package machine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"vmm/kvm"
)

// start runs a machine, and returns what ends it and waits.
func start(t *testing.T, m *Machine) (end func() Outcome) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan Outcome, 1)
	go func() {
		o, err := m.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- o
	}()
	return func() Outcome {
		cancel()
		select {
		case o := <-done:
			return o
		case <-time.After(20 * time.Second):
			t.Fatal("the machine does not end")
		}
		return Outcome{}
	}
}

// Every processor can be looked at, while the guest runs and while it does not,
// by several at once, and also one that the guest has not started. What it has
// just read from a device has arrived.
func TestOnCPU(t *testing.T) {
	m := newMachine(t, []byte{
		0xb8, 0x00, 0x00, 0x00, 0x00, // mov $0, %eax
		0xe4, 0x90, //                   1: in $0x90, %al: nothing there, all ones
		0xeb, 0xfc, //                   jmp 1b
	}, func(c *Config) { c.CPUs = 3 })
	end := start(t, m)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 30 {
				var regs kvm.Regs
				if err := m.onCPU(i%3, func(c *cpu) (err error) {
					regs, err = c.vcpu.Regs()
					return err
				}); err != nil {
					t.Error(err)
				}
				if i%3 == 0 && regs.RIP != 0x1000207 && regs.RIP != 0x1000205 && regs.RIP != 0x1000200 {
					t.Errorf("RIP %#x", regs.RIP)
				}
				if regs.RIP == 0x1000207 && regs.RAX != 0xff {
					t.Errorf("RAX %#x after the read; want 0xff", regs.RAX)
				}
			}
		})
	}
	group.Wait()
	m.Pause()
	if w, err := m.Translate(0, 0x1000200); err != nil || !w.Mapped || w.Physical != 0x1000200 || w.Size != 2<<20 {
		t.Errorf("%+v, %v; want an identity map of 2 MiB", w, err)
	}
	if !m.Paused() {
		t.Error("it is not paused any more")
	}
	m.Resume()
	if m.Paused() {
		t.Error("it is still paused")
	}
	if err := m.onCPU(3, nil); err == nil {
		t.Error("there is a vCPU too many")
	}
	end()
	if err := m.onCPU(0, nil); !errors.Is(err, errEnded) {
		t.Errorf("of a machine that has ended: %v", err)
	}
}
