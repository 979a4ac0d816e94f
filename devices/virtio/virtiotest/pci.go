package virtiotest

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"vmm/devices"
	"vmm/devices/pci"
	"vmm/devices/virtio"
)

// Where the PCI bus of NewPCI has its devices.
const (
	WindowAddr = 0xd000_0000
	WindowSize = 0x10_0000
)

// Message is a message-signalled interrupt that a test looks at.
type Message struct {
	*devices.Event
	Addr atomic.Uint64
	Data atomic.Uint32
}

// Route implements devices.Message.
func (m *Message) Route(addr uint64, data uint32) error {
	m.Addr.Store(addr)
	m.Data.Store(data)
	return nil
}

// NewPCI returns a driver for a device on a PCI bus, which it has found by its
// capabilities. Each of the messages goes to the driver's Interrupt.
func NewPCI(t testing.TB, d virtio.Device) (*Driver, *pci.Root, []*Message) {
	t.Helper()
	return NewPCILogged(t, d, slog.New(slog.DiscardHandler))
}

// NewPCILogged is NewPCI with a log.
func NewPCILogged(t testing.TB, d virtio.Device, log *slog.Logger) (*Driver, *pci.Root, []*Message) {
	t.Helper()
	driver := newDriver(t)
	p := &pciRegs{queues: len(d.Info().Queues)}
	attach := func(d virtio.Device) (root *pci.Root, messages []*Message) {
		var all []devices.Message
		for range p.queues + 1 {
			m := &Message{Event: driver.Interrupt}
			messages = append(messages, m)
			all = append(all, m)
		}
		transport, err := virtio.NewPCI(d, virtio.Config{Memory: driver.Memory, Log: log}, all)
		if err != nil {
			t.Fatal(err)
		}
		driver.own(transport.Close)
		root = pci.NewRoot(WindowAddr, WindowSize)
		if err := root.Add(transport.Function()); err != nil {
			t.Fatal(err)
		}
		driver.Transport = transport
		p.ecam, p.window = root.ECAM(), root.Memory()
		return root, messages
	}
	root, messages := attach(d)
	p.findCapabilities(t)
	p.enable()
	driver.Regs, driver.move = p, func(d virtio.Device) { attach(d) }
	return driver, root, messages
}

// pciRegs makes the registers of the PCI transport look like those of MMIO.
type pciRegs struct {
	ecam, window           devices.Device
	common, notify, config uint64
	table                  uint64
	msix                   uint64 // in the configuration space
	multiplier             uint32
	queues                 int
}

const slot1 = 1 << 15

func (p *pciRegs) config32(offset uint64) uint32 {
	b := make([]byte, 4)
	p.ecam.Read(slot1+offset, b)
	return le.Uint32(b)
}

func (p *pciRegs) findCapabilities(t testing.TB) {
	bar := uint64(p.config32(0x10)&^0xf) | uint64(p.config32(0x14))<<32
	for at := uint64(p.config32(0x34) & 0xff); at != 0; at = uint64(p.config32(at) >> 8 & 0xff) {
		header := p.config32(at)
		switch id, kind := header&0xff, header>>24; {
		case id == 0x11:
			p.msix = at
			p.table = bar + uint64(p.config32(at+4)&^7)
		case id == 9 && kind == 1:
			p.common = bar + uint64(p.config32(at+8))
		case id == 9 && kind == 2:
			p.notify = bar + uint64(p.config32(at+8))
			p.multiplier = p.config32(at + 16)
		case id == 9 && kind == 4:
			p.config = bar + uint64(p.config32(at+8))
		}
	}
	if p.msix == 0 || p.multiplier == 0 || p.config == 0 {
		t.Fatalf("capabilities are missing: %+v", p)
	}
}

// enable switches memory and messages on, as a driver does.
func (p *pciRegs) enable() {
	p.ecam.Write(slot1+4, []byte{6, 0})
	for i := range uint64(p.queues + 1) {
		p.window.Write(p.table+16*i, le.AppendUint32(nil, 0xfee0_0000))
		p.window.Write(p.table+16*i+4, le.AppendUint32(nil, 0))
		p.window.Write(p.table+16*i+8, le.AppendUint32(nil, uint32(0x40+i)))
		p.window.Write(p.table+16*i+12, le.AppendUint32(nil, 0))
	}
	p.ecam.Write(slot1+p.msix+2, []byte{0, 0x80})
}

// Where a register of MMIO is in the common configuration, and its width.
var commonRegs = map[uint64]struct {
	offset uint64
	width  int
}{
	regFeatures: {0x04, 4}, regFeaturesSelect: {0x00, 4}, regAccept: {0x0c, 4}, regAcceptSelect: {0x08, 4},
	regQueueSelect: {0x16, 2}, regQueueSizeMax: {0x18, 2}, regQueueSize: {0x18, 2}, regQueueReady: {0x1c, 2},
	regStatus: {0x14, 1}, regGeneration: {0x15, 1},
	regQueueDesc: {0x20, 4}, regQueueDesc + 4: {0x24, 4}, regQueueAvail: {0x28, 4}, regQueueAvail + 4: {0x2c, 4},
	regQueueUsed: {0x30, 4}, regQueueUsed + 4: {0x34, 4},
}

func (p *pciRegs) Read(offset uint64, data []byte) {
	if offset >= regConfig {
		p.window.Read(p.config+offset-regConfig, data)
		return
	}
	if r, ok := commonRegs[offset]; ok {
		b := make([]byte, r.width)
		p.window.Read(p.common+r.offset, b)
		copy(data, append(b, 0, 0, 0))
	}
}

func (p *pciRegs) Write(offset uint64, data []byte) {
	if offset >= regConfig {
		p.window.Write(p.config+offset-regConfig, data)
		return
	}
	v := le.Uint32(data)
	if offset == regQueueNotify {
		p.window.Write(p.notify+uint64(v)*uint64(p.multiplier), data[:2])
		return
	}
	r, ok := commonRegs[offset]
	if !ok {
		return
	}
	p.window.Write(p.common+r.offset, data[:r.width])
	switch {
	case offset == regQueueSelect: // and choose its vector
		p.window.Write(p.common+0x1a, le.AppendUint16(nil, uint16(v+1)))
	case offset == regStatus && v == StatusAcknowledge:
		p.window.Write(p.common+0x10, le.AppendUint16(nil, 0))
	}
}
