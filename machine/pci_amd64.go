package machine

import (
	"fmt"

	"vmm/boot/acpi"
	"vmm/devices"
	"vmm/devices/pci"
	"vmm/devices/virtio"
	"vmm/kvm"
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
	if err := m.ports.Insert(portPCI, pci.PortsSize, "PCI", m.pci.Ports()); err != nil {
		return err
	}
	if err := m.mmio.Insert(pciECAMAddr, pci.ECAMSize, "PCI ECAM", m.pci.ECAM()); err != nil {
		return err
	}
	m.described = append(m.described, acpi.PCI(portPCI,
		[2]uint32{pciWindowAddr, pciWindowSize}, [2]uint32{pciECAMAddr, pci.ECAMSize}))
	m.ecam = pciECAMAddr
	return m.mmio.Insert(pciWindowAddr, pciWindowSize, "PCI", m.pci.Window())
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
	m.closers = append(m.closers, t.Close)
	m.transports = append(m.transports, t)
	// The guest decides where the registers are, and whether they are there.
	t.Function().Moved = func(old, now uint64) {
		if err := m.moveDoorbells(t.Doorbells(), old, now); err != nil {
			m.log.Warn("the doorbells of a PCI device could not be moved", "from", old, "to", now, "error", err)
		}
	}
	if err := m.pci.Add(t.Function()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// moveDoorbells has KVM answer doorbells at another place, 0 for none.
func (m *Machine) moveDoorbells(doorbells []virtio.Doorbell, old, now uint64) error {
	if old != 0 && !m.doorbellExits {
		for _, bell := range doorbells {
			event := kvm.IOEvent{Addr: old + bell.Offset, Size: bell.Size, Match: bell.Match}
			if err := m.vm.RemoveIOEventFD(bell.Event.FD(), event); err != nil {
				return err
			}
		}
	}
	if now != 0 {
		return m.ringWithoutExit(now, doorbells)
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
