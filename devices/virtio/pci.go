package virtio

import (
	"fmt"
	"sync/atomic"

	"vmm/devices"
	"vmm/devices/pci"
)

// The capabilities by which a driver finds the registers. virtio §4.1.4.
const (
	capVendor = 0x09

	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4
	capPCI    = 5 // registers through the configuration space

	capSize       = 16
	capNotifySize = 20
	capPCISize    = 20
)

// The layout of BAR 0: a page for each kind of register, so that a guest may
// map them apart.
const (
	barCommon  = 0x0000
	barISR     = 0x1000
	barDevice  = 0x2000
	barNotify  = 0x3000
	barTable   = 0x4000
	barPending = 0x5000
	barSize    = 0x8000
	barPage    = 0x1000

	notifyStep = 4 // from one queue's doorbell to the next
)

// Registers of the common configuration. virtio §4.1.4.3.
const (
	pciFeaturesSelect = 0x00
	pciFeatures       = 0x04
	pciAcceptSelect   = 0x08
	pciAccept         = 0x0c
	pciConfigVector   = 0x10
	pciQueues         = 0x12
	pciStatus         = 0x14
	pciGeneration     = 0x15
	pciQueueSelect    = 0x16
	pciQueueSize      = 0x18
	pciQueueVector    = 0x1a
	pciQueueEnable    = 0x1c
	pciQueueNotifyOff = 0x1e
	pciQueueDesc      = 0x20
	pciQueueDriver    = 0x28
	pciQueueDevice    = 0x30
	pciCommonSize     = 0x38
)

const noVector = 0xffff

// PCI is the transport by a PCI function, with an MSI-X vector for each queue
// and one for the configuration. virtio §4.1. Without MSI-X there are no
// interrupts.
type PCI struct {
	transport
	function *pci.Function
	msix     *pci.MSIX
	bar      devices.Bus
	access   *pciAccess
	changed  pciInterrupt
	queued   []pciInterrupt
}

// pciInterrupt is the interrupt of a queue, or of the configuration: a vector
// that the driver chooses.
type pciInterrupt struct {
	pci    *PCI
	vector atomic.Uint32
}

func (i *pciInterrupt) Signal() { i.pci.msix.Signal(int(i.vector.Load())) }

// NewPCI puts a device behind the PCI transport. It takes the device over: Close
// closes it, as does a failure. There must be one message more than the device
// has queues.
func NewPCI(d Device, c Config, messages []devices.Message) (*PCI, error) {
	p := &PCI{}
	p.interrupts = p
	if err := p.init(d, c); err != nil {
		return nil, err
	}
	p.changed.pci = p
	p.queued = make([]pciInterrupt, len(p.info.Queues))
	for i := range p.queued {
		p.queued[i].pci = p
	}
	p.forget()
	p.function = pci.NewFunction(p.identity(), &p.bar, barSize)
	p.function.Name = p.name
	p.addCapabilities()
	p.msix = pci.NewMSIX(p.function, messages, barTable, barPending, c.Log)
	return p, p.fillBAR()
}

// Function is the PCI function, to be put on a bus.
func (p *PCI) Function() *pci.Function { return p.function }

// identity is how a driver recognizes the device. virtio §4.1.2.
func (p *PCI) identity() pci.Identity {
	const vendor, firstDevice, subDevice = 0x1af4, 0x1040, 0x40
	classes := map[Type]uint32{TypeNet: 0x020000, TypeBlock: 0x018000, TypeConsole: 0x078000}
	class, known := classes[p.info.Type]
	if !known {
		class = 0xff0000 // none of those that PCI knows
	}
	return pci.Identity{
		Vendor: vendor, Device: firstDevice + uint16(p.info.Type), Class: class, Revision: 1,
		SubVendor: vendor, SubDevice: subDevice,
	}
}

func (p *PCI) addCapabilities() {
	notifySize := uint32(len(p.info.Queues) * notifyStep)
	for _, c := range []struct {
		kind         byte
		offset, size uint32
	}{
		{capCommon, barCommon, pciCommonSize},
		{capISR, barISR, 1},
		{capDevice, barDevice, barPage},
	} {
		p.function.AddCapability(capVendor, capSize, pci.Registers(structure(c.kind, capSize, c.offset, c.size)))
	}
	notify := le.AppendUint32(structure(capNotify, capNotifySize, barNotify, notifySize), notifyStep)
	p.function.AddCapability(capVendor, capNotifySize, pci.Registers(notify))
	p.access = &pciAccess{bar: &p.bar, regs: structure(capPCI, capPCISize, 0, 0), warn: p.warn}
	p.function.AddCapability(capVendor, capPCISize, p.access)
}

// structure is a capability of virtio. virtio §4.1.4.
func structure(kind, size byte, offset, length uint32) []byte {
	b := []byte{capVendor, 0, size, kind, 0, 0, 0, 0}
	return le.AppendUint32(le.AppendUint32(b, offset), length)
}

func (p *PCI) fillBAR() error {
	for _, part := range []struct {
		base, size uint64
		device     devices.Device
	}{
		{barCommon, barPage, (*pciCommon)(p)},
		{barISR, barPage, isr{}},
		{barDevice, barPage, deviceConfig{p.device}},
		{barNotify, barPage, (*pciNotify)(p)},
		{barTable, p.msix.TableSize(), p.msix.Table()},
		{barPending, p.msix.PendingSize(), p.msix.Pending()},
	} {
		if err := p.bar.Insert(part.base, part.size, p.name, part.device); err != nil {
			return err
		}
	}
	return nil
}

func (p *PCI) queue(i int) devices.Interrupt { return &p.queued[i] }
func (p *PCI) config() devices.Interrupt     { return &p.changed }

// forget is a reset's part: no queue has a vector, and no interrupt is pending.
func (p *PCI) forget() {
	p.changed.vector.Store(noVector)
	for i := range p.queued {
		p.queued[i].vector.Store(noVector)
	}
	if p.msix != nil { // nil while the device is being made
		p.msix.Reset()
	}
}

// Doorbells are the writes that ring the queues' doorbells: each queue has an
// address of its own, and what is written there does not matter.
func (p *PCI) Doorbells() []Doorbell {
	var all []Doorbell
	for i, event := range p.doorbells {
		all = append(all, Doorbell{Event: event, Offset: barNotify + uint64(i)*notifyStep})
	}
	return all
}

// pciCommon is the common configuration.
type pciCommon PCI

// commonRegisters are its registers in their order.
var commonRegisters = []struct{ offset, width uint64 }{
	{pciFeaturesSelect, 4}, {pciFeatures, 4}, {pciAcceptSelect, 4}, {pciAccept, 4},
	{pciConfigVector, 2}, {pciQueues, 2}, {pciStatus, 1}, {pciGeneration, 1},
	{pciQueueSelect, 2}, {pciQueueSize, 2}, {pciQueueVector, 2}, {pciQueueEnable, 2}, {pciQueueNotifyOff, 2},
	{pciQueueDesc, 8}, {pciQueueDriver, 8}, {pciQueueDevice, 8},
}

// Read reads whatever registers lie there: a driver reads each at its own width,
// and 64-bit ones as a whole or in halves.
func (c *pciCommon) Read(offset uint64, data []byte) {
	if offset >= pciCommonSize {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.registers()
	copy(data, r[offset:])
}

// registers is a picture of all registers.
func (c *pciCommon) registers() (r [pciCommonSize]byte) {
	le.PutUint32(r[pciFeaturesSelect:], c.featureSelect)
	le.PutUint32(r[pciFeatures:], c.features())
	le.PutUint32(r[pciAcceptSelect:], c.acceptSelect)
	le.PutUint32(r[pciAccept:], c.accepted.word(c.acceptSelect))
	le.PutUint16(r[pciConfigVector:], uint16(c.changed.vector.Load()))
	le.PutUint16(r[pciQueues:], uint16(len(c.info.Queues)))
	r[pciStatus] = byte(c.status.Load())
	r[pciGeneration] = byte(c.generation.Load())
	le.PutUint16(r[pciQueueSelect:], uint16(c.queueSelect))
	le.PutUint16(r[pciQueueVector:], noVector)
	// A queue that is not there has a size of 0.
	if q := c.selected(); q != nil {
		le.PutUint16(r[pciQueueSize:], q.size)
		le.PutUint16(r[pciQueueVector:], uint16(c.queued[c.queueSelect].vector.Load()))
		if q.enabled {
			r[pciQueueEnable] = 1
		}
		le.PutUint16(r[pciQueueNotifyOff:], uint16(c.queueSelect))
		le.PutUint64(r[pciQueueDesc:], q.desc)
		le.PutUint64(r[pciQueueDriver:], q.avail)
		le.PutUint64(r[pciQueueDevice:], q.used)
	}
	return r
}

// Write writes to the registers that an access covers, each in its turn. One that
// is covered in part keeps its other bytes, as with the byte enables of a PCI bus:
// a 64-bit register may be written in halves, or as a whole.
func (c *pciCommon) Write(offset uint64, data []byte) {
	c.mu.Lock()
	var wait <-chan struct{}
	written := false
	end := offset + uint64(len(data))
	for _, r := range commonRegisters {
		low, high := max(offset, r.offset), min(end, r.offset+r.width)
		if low >= high {
			continue
		}
		image := c.registers()
		var b [8]byte
		copy(b[:], image[r.offset:][:r.width])
		copy(b[low-r.offset:], data[low-offset:high-offset])
		v := le.Uint64(b[:])
		if r.offset == pciStatus {
			wait = c.setStatus(uint32(v))
			written = true
		} else {
			written = c.set(r.offset, v) || written
		}
	}
	if !written {
		c.warn("the driver writes to a register that cannot be written", "offset", hex(offset), "bytes", len(data))
	}
	c.mu.Unlock()
	c.await(wait)
}

// set writes a register other than the status. It is false for one that cannot be
// written.
func (c *pciCommon) set(offset uint64, v uint64) bool {
	switch offset {
	case pciFeaturesSelect:
		c.featureSelect = uint32(v)
	case pciAcceptSelect:
		c.acceptSelect = uint32(v)
	case pciAccept:
		c.accept(uint32(v))
	case pciConfigVector:
		c.setVector(&c.changed, uint32(v))
	case pciQueueSelect:
		c.queueSelect = uint32(v)
	case pciQueueSize:
		if q := c.settable(); q != nil {
			q.size = uint16(v) // activate has it checked
		}
	case pciQueueVector:
		if c.selected() != nil {
			c.setVector(&c.queued[c.queueSelect], uint32(v))
		}
	case pciQueueEnable:
		// virtio §4.1.4.3.2: the driver writes no 0. A reset takes the queue
		// out of service.
		if v == 1 {
			c.enable(true)
		} else {
			c.warn("the driver writes something else than 1 to queue_enable; nothing changes", "queue", c.queueSelect, "value", hex(v))
		}
	case pciQueueDesc, pciQueueDriver, pciQueueDevice:
		if q := c.settable(); q != nil {
			*[...]*uint64{&q.desc, &q.avail, &q.used}[(offset-pciQueueDesc)/8] = v
		}
	default:
		return false
	}
	return true
}

// setVector chooses a vector. One that is not there reads back as none, by which
// the driver knows. virtio §4.1.5.1.2.
func (c *pciCommon) setVector(i *pciInterrupt, v uint32) {
	if int(v) >= c.msix.Vectors() {
		v = noVector
	}
	i.vector.Store(v)
}

// pciNotify are the doorbells, for where KVM does not answer them.
type pciNotify PCI

func (n *pciNotify) Read(uint64, []byte) {}

// Write rings the doorbells that an access covers, even in part.
func (n *pciNotify) Write(offset uint64, data []byte) {
	for queue, last := offset/notifyStep, (offset+uint64(len(data))-1)/notifyStep; queue <= last; queue++ {
		n.ring(uint32(queue))
	}
}

// isr is the register with the reasons for an interrupt by pin, which this
// transport does not have. virtio §4.1.4.5.
type isr struct{}

func (isr) Read(_ uint64, data []byte) { clear(data) }
func (isr) Write(uint64, []byte)       {}

// deviceConfig is the configuration space of the device's type.
type deviceConfig struct{ device Device }

func (c deviceConfig) Read(offset uint64, data []byte)  { c.device.ReadConfig(offset, data) }
func (c deviceConfig) Write(offset uint64, data []byte) { c.device.WriteConfig(offset, data) }

// pciAccess is a window on BAR 0 in the configuration space, for firmware that
// cannot map memory. virtio §4.1.4.9.
type pciAccess struct {
	bar  *devices.Bus
	regs []byte // the capability, up to the window
	warn func(what string, args ...any)
}

// target is where in BAR 0 the driver wants to look. ok is false where that is
// nowhere, or not of the width of a register.
func (a *pciAccess) target() (offset uint64, n int, ok bool) {
	const regBAR, regOffset, regLength = 4, 8, 12
	offset, length := uint64(le.Uint32(a.regs[regOffset:])), le.Uint32(a.regs[regLength:])
	ok = a.regs[regBAR] == 0 && (length == 1 || length == 2 || length == 4) && offset%uint64(length) == 0 && offset < barSize
	return offset, int(length), ok
}

// Read answers in the window with the bytes of the register, read at its width.
func (a *pciAccess) Read(offset uint64, data []byte) {
	if offset < capSize {
		n := copy(data, a.regs[offset:])
		offset, data = offset+uint64(n), data[n:]
	}
	at, n, ok := a.target()
	if len(data) == 0 || !ok {
		return
	}
	register := []byte{0xff, 0xff, 0xff, 0xff}[:n]
	a.bar.Read(at, register)
	if skip := offset - capSize; skip < uint64(n) {
		copy(data, register[skip:])
	}
}

func (a *pciAccess) Write(offset uint64, data []byte) {
	for offset < capSize && len(data) > 0 {
		// bar, offset and length can be written, and nothing else.
		if offset == 4 || offset >= 8 {
			a.regs[offset] = data[0]
		}
		offset, data = offset+1, data[1:]
	}
	if len(data) == 0 {
		return
	}
	if at, n, ok := a.target(); ok && offset == capSize && len(data) >= n {
		a.bar.Write(at, data[:n])
		return
	}
	a.warn("the driver writes through the configuration access capability at another width than it chose; nothing changes", "offset", offset, "bytes", len(data))
}

// window is what the driver has written to the capability, and setWindow writes it.
func (a *pciAccess) window() []byte {
	return append([]byte{a.regs[4]}, a.regs[8:capSize]...)
}

func (a *pciAccess) setWindow(w []byte) error {
	if len(w) != 1+capSize-8 {
		return fmt.Errorf("pci: window: %d bytes instead of %d", len(w), 1+capSize-8)
	}
	a.regs[4] = w[0]
	copy(a.regs[8:], w[1:])
	return nil
}
