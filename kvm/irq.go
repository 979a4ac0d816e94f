package kvm

import "fmt"

// CreateIRQChip puts interrupt controllers into the VM, in the kernel: on x86
// two 8259 PICs, an I/O APIC and, in each vCPU created afterwards, a local
// APIC. KVM api.rst §4.24.
func (v *VM) CreateIRQChip() error {
	_, err := ioctlInt(v.fd, "KVM_CREATE_IRQCHIP", reqCreateIRQChip, 0)
	return err
}

// irqLevel is struct kvm_irq_level.
type irqLevel struct {
	GSI   uint32
	Level uint32
}

// SetIRQLine drives an input of the interrupt controllers to a level. A GSI
// (global system interrupt) is the input's number. KVM api.rst §4.25.
func (v *VM) SetIRQLine(gsi uint32, level bool) error {
	arg := irqLevel{GSI: gsi}
	if level {
		arg.Level = 1
	}
	_, err := ioctlPtr(v.fd, "KVM_IRQ_LINE", reqIRQLine, &arg)
	return err
}

// irqFD is struct kvm_irqfd.
type irqFD struct {
	FD         uint32
	GSI        uint32
	Flags      uint32
	ResampleFD uint32
	_          [16]byte
}

// AddIRQFD ties an eventfd to a GSI: each write to it is a pulse on that
// input, or the MSI that the GSI is routed to, injected without a call into
// KVM. KVM api.rst §4.75.
func (v *VM) AddIRQFD(eventfd int, gsi uint32) error {
	return v.irqfd(irqFD{FD: uint32(eventfd), GSI: gsi})
}

// RemoveIRQFD undoes AddIRQFD. When it returns, no more interrupts come from
// the eventfd.
func (v *VM) RemoveIRQFD(eventfd int, gsi uint32) error {
	const deassign = 1
	return v.irqfd(irqFD{FD: uint32(eventfd), GSI: gsi, Flags: deassign})
}

func (v *VM) irqfd(arg irqFD) error {
	if _, err := ioctlPtr(v.fd, "KVM_IRQFD", reqIRQFD, &arg); err != nil {
		return fmt.Errorf("GSI %d: %w", arg.GSI, err)
	}
	return nil
}

// IOEvent describes guest writes that KVM turns into a signal on an eventfd
// instead of an exit: a doorbell.
type IOEvent struct {
	Addr  uint64  // of the port or guest-physical
	Size  int     // of the write: 1, 2, 4 or 8 bytes; 0 for any
	Match *uint64 // the only value that counts; nil for every value
	Port  bool    // a port and not memory
}

// ioEventFD is struct kvm_ioeventfd.
type ioEventFD struct {
	DataMatch uint64
	Addr      uint64
	Len       uint32
	FD        int32
	Flags     uint32
	_         [36]byte
}

// Flags of struct kvm_ioeventfd.
const (
	ioEventDataMatch = 1 << 0
	ioEventPIO       = 1 << 1
	ioEventDeassign  = 1 << 2
)

// AddIOEventFD makes guest writes that match e signal the eventfd.
// KVM api.rst §4.59.
func (v *VM) AddIOEventFD(eventfd int, e IOEvent) error { return v.ioeventfd(eventfd, e, 0) }

// RemoveIOEventFD undoes AddIOEventFD.
func (v *VM) RemoveIOEventFD(eventfd int, e IOEvent) error {
	return v.ioeventfd(eventfd, e, ioEventDeassign)
}

func (v *VM) ioeventfd(eventfd int, e IOEvent, flags uint32) error {
	arg := ioEventFD{Addr: e.Addr, Len: uint32(e.Size), FD: int32(eventfd), Flags: flags}
	if e.Match != nil {
		arg.DataMatch = *e.Match
		arg.Flags |= ioEventDataMatch
	}
	if e.Port {
		arg.Flags |= ioEventPIO
	}
	if _, err := ioctlPtr(v.fd, "KVM_IOEVENTFD", reqIOEventFD, &arg); err != nil {
		return fmt.Errorf("doorbell at %#x: %w", e.Addr, err)
	}
	return nil
}

// MSI is a message-signalled interrupt: a write of Data to Addr, as a device
// on PCI sends it. Intel SDM vol. 3 §11.11.
type MSI struct {
	Addr uint64
	Data uint32
}

// msi is struct kvm_msi.
type msi struct {
	AddrLo, AddrHi uint32
	Data           uint32
	Flags          uint32
	DevID          uint32
	_              [12]byte
}

// SignalMSI delivers an MSI. It reports whether a vCPU took it: the guest may
// have it masked. KVM api.rst §4.71.
func (v *VM) SignalMSI(m MSI) (bool, error) {
	arg := msi{AddrLo: uint32(m.Addr), AddrHi: uint32(m.Addr >> 32), Data: m.Data}
	n, err := ioctlPtr(v.fd, "KVM_SIGNAL_MSI", reqSignalMSI, &arg)
	return n > 0, err
}

// Route says what a GSI leads to: a pin of an interrupt controller or, when
// MSI is set, a message.
type Route struct {
	GSI  uint32
	Chip IRQChip
	Pin  uint32
	MSI  *MSI
}

// IRQChip names an interrupt controller of the VM.
type IRQChip uint32

// The interrupt controllers of an x86 VM, from <asm/kvm.h>.
const (
	PICMaster IRQChip = 0
	PICSlave  IRQChip = 1
	IOAPIC    IRQChip = 2
)

// irqRoute is struct kvm_irq_routing_entry. Its union holds {irqchip, pin} or
// {address_lo, address_hi, data, devid}.
type irqRoute struct {
	GSI   uint32
	Type  uint32
	Flags uint32
	_     uint32
	Union [8]uint32
}

// maxRoutes is KVM_MAX_IRQ_ROUTES on x86.
const maxRoutes = 4096

// irqRouting is struct kvm_irq_routing with room for every entry.
type irqRouting struct {
	NR      uint32
	Flags   uint32
	Entries [maxRoutes]irqRoute
}

// SetGSIRouting replaces the table that leads from GSIs to interrupt
// controllers and messages, as a whole. KVM api.rst §4.52.
func (v *VM) SetGSIRouting(routes []Route) error {
	const typeIRQChip, typeMSI = 1, 2
	if len(routes) > maxRoutes {
		return fmt.Errorf("KVM_SET_GSI_ROUTING: %d routes are more than %d", len(routes), maxRoutes)
	}
	v.routing.Lock()
	defer v.routing.Unlock()
	if v.routing.table == nil {
		v.routing.table = new(irqRouting)
	}
	arg := v.routing.table
	arg.NR = uint32(len(routes))
	for i, r := range routes {
		e := &arg.Entries[i]
		e.GSI = r.GSI
		if r.MSI != nil {
			e.Type = typeMSI
			e.Union = [8]uint32{uint32(r.MSI.Addr), uint32(r.MSI.Addr >> 32), r.MSI.Data}
		} else {
			e.Type = typeIRQChip
			e.Union = [8]uint32{uint32(r.Chip), r.Pin}
		}
	}
	_, err := ioctlPtr(v.fd, "KVM_SET_GSI_ROUTING", reqSetGSIRouting, arg)
	return err
}
