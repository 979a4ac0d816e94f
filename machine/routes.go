package machine

import (
	"sync"

	"vmm/devices"
	"vmm/kvm"
	"vmm/trace"
)

// ioAPICPins is the number of inputs of KVM's I/O APIC. The interrupts with
// these numbers are wired; those that follow are messages.
const ioAPICPins = 24

// routes is the table that leads from a GSI to where its interrupt goes. KVM
// takes it as a whole.
type routes struct {
	mu    sync.Mutex
	table []kvm.Route
	gsis  uint32 // given out
}

// message is a message-signalled interrupt: an eventfd that KVM waits for, under
// a GSI of its own.
type message struct {
	*devices.Event
	routes *routes
	vm     *kvm.VM
	gsi    uint32
	msi    *kvm.MSI // nil until the guest has said where to

	device  string
	tracing *tracing
}

// message returns a new interrupt that goes nowhere yet.
func (r *routes) message(vm *kvm.VM, event *devices.Event, device string, t *tracing) devices.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gsis++
	return &message{Event: event, routes: r, vm: vm, gsi: ioAPICPins + r.gsis - 1, device: device, tracing: t}
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

// Route implements devices.Message.
func (m *message) Route(addr uint64, data uint32) error {
	r := m.routes
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.msi != nil {
		*m.msi = kvm.MSI{Addr: addr, Data: data}
		return m.vm.SetGSIRouting(r.table)
	}
	if r.table == nil {
		r.table = wiredRoutes()
	}
	m.msi = &kvm.MSI{Addr: addr, Data: data}
	r.table = append(r.table, kvm.Route{GSI: m.gsi, MSI: m.msi})
	if err := m.vm.SetGSIRouting(r.table); err != nil {
		return err
	}
	return m.vm.AddIRQFD(m.FD(), m.gsi)
}

// wire has the wired interrupts lead to where a PC has them.
func (r *routes) wire(vm *kvm.VM) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.table == nil {
		r.table = wiredRoutes()
	}
	return vm.SetGSIRouting(r.table)
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
