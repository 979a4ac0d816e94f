package pci

import (
	"errors"
	"sync/atomic"

	"vmm/devices"
)

// Slots is the number of devices on the bus, the host bridge among them.
const Slots = 32

// Sizes of what the root complex occupies.
const (
	PortsSize = 8       // configuration address and data
	ECAMSize  = 1 << 20 // configuration space of bus 0, a page a function
)

// Root is the root complex: a bus with a host bridge in slot 0. All Adds come
// before the first access.
type Root struct {
	// Free, if set, says whether a range of addresses is nothing else's than
	// PCI's. Registers that the guest puts somewhere else do not answer.
	Free func(base, size uint64) bool

	functions []*Function
	next, end uint64 // where the next BAR goes

	address atomic.Uint32 // the configuration address register
}

// NewRoot returns a bus whose devices have their registers in size bytes of
// memory from base on, before the guest moves them.
func NewRoot(base, size uint64) *Root {
	r := &Root{next: base, end: base + size}
	// The identity of QEMU's generic bridge, which needs no driver.
	r.functions = []*Function{NewFunction(Identity{Vendor: 0x1b36, Device: 0x0008, Class: 0x060000}, nil, 0)}
	return r
}

// Add puts a function into the next slot, as the only one of its device.
func (r *Root) Add(f *Function) error {
	base := (r.next + f.size - 1) &^ (f.size - 1)
	if len(r.functions) == Slots || base+f.size > r.end {
		return errors.New("the PCI bus is full")
	}
	f.place(base)
	f.free = func(base, size uint64) bool { return r.Free == nil || r.Free(base, size) }
	r.next = base + f.size
	r.functions = append(r.functions, f)
	return nil
}

// function is the function at a place in the bus, or nil.
func (r *Root) function(bus, slot, function uint32) *Function {
	if bus != 0 || function != 0 || int(slot) >= len(r.functions) {
		return nil
	}
	return r.functions[slot]
}

// Ports are the configuration ports of a PC, for 0xcf8: an address, and data.
// PCI §3.2.2.3.2.
func (r *Root) Ports() devices.Device { return (*ports)(r) }

type ports Root

// selected is the function and register that the address selects.
func (p *ports) selected() (*Function, uint64) {
	const enable = 1 << 31
	a := p.address.Load()
	if a&enable == 0 {
		return nil, 0
	}
	return (*Root)(p).function(a>>16&0xff, a>>11&0x1f, a>>8&7), uint64(a & 0xfc)
}

func (p *ports) Read(offset uint64, data []byte) {
	if offset < 4 {
		if offset == 0 && len(data) == 4 {
			le.PutUint32(data, p.address.Load())
		}
		return
	}
	if f, reg := p.selected(); f != nil {
		f.readConfig(reg+offset-4, data)
	}
}

func (p *ports) Write(offset uint64, data []byte) {
	if offset < 4 {
		if offset == 0 && len(data) == 4 {
			p.address.Store(le.Uint32(data))
		}
		return
	}
	if f, reg := p.selected(); f != nil {
		f.writeConfig(reg+offset-4, data)
	}
}

// ECAM is the configuration space of bus 0 in memory: the enhanced
// configuration access mechanism. PCIe §7.2.2.
func (r *Root) ECAM() devices.Device { return (*ecam)(r) }

type ecam Root

func (e *ecam) find(offset uint64) (*Function, uint64) {
	return (*Root)(e).function(uint32(offset>>20), uint32(offset>>15&0x1f), uint32(offset>>12&7)), offset & 0xfff
}

func (e *ecam) Read(offset uint64, data []byte) {
	if f, reg := e.find(offset); f != nil {
		f.readConfig(reg, data)
	}
}

func (e *ecam) Write(offset uint64, data []byte) {
	if f, reg := e.find(offset); f != nil {
		f.writeConfig(reg, data)
	}
}

// Memory is where the devices have their registers, wherever the guest has put
// them: its offsets are addresses.
func (r *Root) Memory() devices.Window { return (*memory)(r) }

type memory Root

func (m *memory) Read(addr uint64, data []byte) {
	if d, _, reg := m.Find(addr); d != nil {
		d.Read(reg, data)
	}
}

func (m *memory) Write(addr uint64, data []byte) {
	if d, _, reg := m.Find(addr); d != nil {
		d.Write(reg, data)
	}
}
