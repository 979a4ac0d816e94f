package machine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"vmm/boot/acpi"
	"vmm/devices"
	"vmm/devices/pci"
	"vmm/devices/serial"
	"vmm/kvm"
	"vmm/memory"
)

// Machine is a virtual computer, put together by New.
type Machine struct {
	log    *slog.Logger
	vm     *kvm.VM
	memory *memory.Guest
	ports  devices.Bus
	mmio   devices.Bus
	serial *serial.Port
	cpus   []*cpu

	pci       *pci.Root   // nil without
	routes    routes      // of interrupts, to the guest
	described []acpi.Term // devices that the firmware tells of
	ecam      uint64      // where the firmware tells of PCI; 0 for nowhere
	words     []string    // of the command line: devices, for a guest without ACPI

	closers []func() error // in the order of construction

	stopping atomic.Bool
	stopOnce sync.Once
	stopped  chan struct{} // closed by stop
	outcome  Outcome       // set before stopped is closed
	err      error         // likewise
}

// Serial is the guest's first serial port, for giving it input.
func (m *Machine) Serial() *serial.Port { return m.serial }

// Stats are counts of what happened, for reports after Run.
type Stats struct {
	Exits     uint64 `json:"exits"`     // from guest to vmm, by all vCPUs
	Unclaimed uint64 `json:"unclaimed"` // accesses to ports and memory without a device
}

// Stats may be called once Run has returned.
func (m *Machine) Stats() Stats {
	s := Stats{Unclaimed: m.ports.Unclaimed() + m.mmio.Unclaimed()}
	for _, c := range m.cpus {
		s.Exits += c.exits
	}
	return s
}

// Run starts the processors and returns when the guest has ended or ctx is
// cancelled; by then none of them runs any more. The error is one of vmm or
// the host: a guest's crash is an Outcome. Run is called once.
//
// A vCPU that is blocked in a write to Config.Console ends only when that
// write does: who cancels ctx lets go of it too.
func (m *Machine) Run(ctx context.Context) (Outcome, error) {
	release := context.AfterFunc(ctx, func() { m.stop(Outcome{Kind: Stopped}, nil) })
	defer release()
	var threads sync.WaitGroup
	for _, c := range m.cpus {
		threads.Go(func() { c.loop(m) })
	}
	<-m.stopped
	// Each has either not yet looked at stopping, and is sent back to look,
	// or has seen it and is on its way out.
	for _, c := range m.cpus {
		c.vcpu.Kick()
	}
	threads.Wait()
	if m.outcome.Kind == Stopped && m.err == nil {
		m.logProcessors()
	}
	return m.outcome, m.err
}

// stop ends the machine. The first call says how.
func (m *Machine) stop(o Outcome, err error) {
	m.stopOnce.Do(func() {
		m.outcome, m.err = o, err
		m.stopping.Store(true)
		close(m.stopped)
	})
}

// Close lets go of everything the machine holds. Run must have returned or
// never been called.
func (m *Machine) Close() error {
	var errs []error
	for i := len(m.closers) - 1; i >= 0; i-- {
		errs = append(errs, m.closers[i]())
	}
	m.closers = nil
	return errors.Join(errs...)
}
