package machine

import (
	"errors"
	"slices"
	"sync"

	"vmm/devices"
	"vmm/kvm"
	"vmm/trace"
)

// ioAPICPins is the number of inputs of KVM's I/O APIC. The interrupts with
// these numbers are wired; those that follow are messages.
const ioAPICPins = 24

// router is what routes ask of KVM.
type router interface {
	SetGSIRouting([]kvm.Route) error
	AddIRQFD(eventfd int, gsi uint32) error
}

// routes is the table that leads from a GSI to where its interrupt goes. KVM
// takes it as a whole.
type routes struct {
	mu    sync.Mutex
	table []kvm.Route // as KVM took it last; nil before the first change
	gsis  uint32      // given out
}

// message is a message-signalled interrupt: an eventfd that KVM waits for, under
// a GSI of its own.
type message struct {
	*devices.Event
	routes *routes
	kvm    router
	gsi    uint32
	msi    *kvm.MSI // nil until the guest has said where to, and KVM has taken it

	device  string
	tracing *tracing
}

// message returns a new interrupt that goes nowhere yet.
func (r *routes) message(vm router, event *devices.Event, device string, t *tracing) devices.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gsis++
	return &message{Event: event, routes: r, kvm: vm, gsi: ioAPICPins + r.gsis - 1, device: device, tracing: t}
}

// Signal implements devices.Interrupt.
func (m *message) Signal() {
	if t := m.tracing.now.Load(); t != nil {
		m.routes.mu.Lock()
		if m.msi != nil {
			t.put(trace.Record{Kind: trace.Interrupt, Device: m.device, Message: true, MSIAddr: m.msi.Addr, MSIData: m.msi.Data})
		}
		m.routes.mu.Unlock()
	}
	m.Event.Signal()
}

// Route implements devices.Message. A target that KVM refuses changes nothing: the
// interrupt goes where it went, and so do the others.
func (m *message) Route(addr uint64, data uint32) error {
	r := m.routes
	r.mu.Lock()
	defer r.mu.Unlock()
	before, msi := r.current(), &kvm.MSI{Addr: addr, Data: data}
	if err := r.set(m.kvm, with(before, kvm.Route{GSI: m.gsi, MSI: msi})); err != nil {
		return err
	}
	if m.msi == nil {
		if err := m.kvm.AddIRQFD(m.FD(), m.gsi); err != nil {
			// Should the route stay, it does no harm: nothing leads to it.
			return errors.Join(err, r.set(m.kvm, before))
		}
	}
	m.msi = msi
	return nil
}

// current is the table that KVM has, or is to have.
func (r *routes) current() []kvm.Route {
	if r.table == nil {
		return wiredRoutes()
	}
	return r.table
}

// set has KVM take a table.
func (r *routes) set(k router, table []kvm.Route) error {
	if err := k.SetGSIRouting(table); err != nil {
		return err
	}
	r.table = table
	return nil
}

// with is a copy of a table in which a GSI leads to a message.
func with(table []kvm.Route, route kvm.Route) []kvm.Route {
	table = slices.Clone(table)
	if i := slices.IndexFunc(table, func(r kvm.Route) bool { return r.GSI == route.GSI }); i >= 0 {
		table[i] = route
		return table
	}
	return append(table, route)
}

// apply has the wired interrupts lead to where a PC has them.
func (r *routes) apply(vm router) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set(vm, r.current())
}

// timerPin is the input of the I/O APIC that the PIT's interrupt, number 0, leads
// to on a PC, and of which the MADT and the MP table tell. The interrupt of that
// number is the second PIC's at the first, and leads nowhere else.
const timerPin = 2

// wiredRoutes lead each input to the I/O APIC, and the first 16 to the PICs as
// well. KVM begins with the same, but for the timer's.
func wiredRoutes() []kvm.Route {
	var table []kvm.Route
	for gsi := range uint32(ioAPICPins) {
		pin := gsi
		if gsi == 0 {
			pin = timerPin
		}
		if gsi != timerPin {
			table = append(table, kvm.Route{GSI: gsi, Chip: kvm.IOAPIC, Pin: pin})
		}
		if gsi < 8 {
			table = append(table, kvm.Route{GSI: gsi, Chip: kvm.PICMaster, Pin: gsi})
		} else if gsi < 16 {
			table = append(table, kvm.Route{GSI: gsi, Chip: kvm.PICSlave, Pin: gsi - 8})
		}
	}
	return table
}
