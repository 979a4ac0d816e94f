package machine

import (
	"fmt"

	"vmm/boot/acpi"
	"vmm/devices"
	"vmm/devices/pci"
	"vmm/devices/virtio"
	"vmm/memory"
)

// Where PCI lies: the configuration ports of a PC and, in the hole below 4 GiB,
// the registers of the devices and their configuration space.
const (
	portPCI       = 0xcf8
	pciWindowAddr = 0xd000_0000
	pciWindowSize = 0x1000_0000
	pciECAMAddr   = 0xe000_0000
)

// addPCI adds a PCI bus.
func (m *Machine) addPCI() error {
	m.pci = pci.NewRoot(pciWindowAddr, pciWindowSize)
	m.pci.Free = m.freeForPCI
	if err := m.ports.Insert(portPCI, pci.PortsSize, "PCI", m.pci.Ports()); err != nil {
		return err
	}
	if err := m.mmio.Insert(pciECAMAddr, pci.ECAMSize, "PCI ECAM", m.pci.ECAM()); err != nil {
		return err
	}
	m.ecam = pciECAMAddr
	m.mmio.Otherwise("PCI", m.pci.Memory())
	return nil
}

// describePCI tells where an operating system may put registers: in the window below
// 4 GiB, where they are, and anywhere above RAM that a processor reaches.
func (m *Machine) describePCI() acpi.Term {
	windows := []acpi.Term{acpi.Window(pciWindowAddr, pciWindowSize)}
	if w := highWindow(m.memory.Regions(), m.addressBits); w.Size > 0 {
		windows = append(windows, acpi.HighWindow(w.Start, w.Size))
	}
	return acpi.PCI(portPCI, [2]uint32{pciECAMAddr, pci.ECAMSize}, windows...)
}

// highWindow is where a processor with addresses of some bits has neither RAM nor the
// board's devices, above 4 GiB.
func highWindow(ram []memory.Region, addressBits uint) memory.Range {
	start, end := uint64(memory.HoleEnd), uint64(1)<<addressBits
	for _, r := range ram {
		start = max(start, (r.End()+highWindowAlign-1)&^(highWindowAlign-1))
	}
	if start >= end {
		return memory.Range{}
	}
	return memory.Range{Start: start, Size: end - start}
}

// highWindowAlign keeps the window out of the large page that RAM ends in.
const highWindowAlign = 1 << 30

// maxAddress is where the addresses end that a processor can have. Intel SDM vol. 3
// §4.1.4.
const maxAddress = 1 << 52

// freeForPCI reports whether the guest may put registers at a range of addresses:
// those that are neither RAM nor of the board, as on a PC, where these come first.
func (m *Machine) freeForPCI(base, size uint64) bool {
	free := base < maxAddress && m.mmio.Free(base, size)
	taken := func(r memory.Range) { free = free && (base+size <= r.Start || r.Start+r.Size <= base) }
	for _, r := range m.memory.Regions() {
		taken(r.Range)
	}
	for _, a := range kvmAreas() {
		taken(a.Range)
	}
	if !free {
		m.log.Info("the guest puts registers of a PCI device where RAM or other devices are; they do not answer there", "address", base, "size", size)
	}
	return free
}

// attachPCI puts a device on the PCI bus; the first brings the bus with it. It
// takes the device over.
func (m *Machine) attachPCI(d virtio.Device) error {
	if m.pci == nil {
		if err := m.addPCI(); err != nil {
			d.Close()
			return err
		}
	}
	name := m.name(d)
	messages, err := m.messages(name, len(d.Info().Queues)+1)
	if err != nil {
		d.Close()
		return err
	}
	t, err := virtio.NewPCI(d, m.virtioConfig(name), messages)
	if err != nil {
		return err
	}
	m.parts = append(m.parts, part{name, t.Close})
	m.transports = append(m.transports, t)
	// The guest decides where the registers are, and whether they are there.
	bells := m.doorbells.add(t.Doorbells())
	t.Function().Moved = func(old, now uint64) {
		if err := bells.move(now); err != nil {
			m.log.Warn(name+": KVM does not answer the doorbells where the guest has put them; they take longer, as exits", "from", old, "to", now, "error", err)
		}
	}
	if err := m.pci.Add(t.Function()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// messages are n new message-signalled interrupts, of a device with this name.
func (m *Machine) messages(device string, n int) ([]devices.Message, error) {
	var all []devices.Message
	for range n {
		event, err := devices.NewEvent()
		if err != nil {
			return nil, err
		}
		m.closers = append(m.closers, event.Close)
		all = append(all, m.routes.message(m.vm, event, device, &m.tracing))
	}
	return all, nil
}
