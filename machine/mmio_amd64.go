package machine

import (
	"fmt"
	"strings"

	"vmm/boot/acpi"
	"vmm/devices"
	"vmm/devices/virtio"
)

// Registers of virtio devices on the MMIO transport: a page each, in the hole
// below 4 GiB. The hole's first page is the boot timer's.
const (
	virtioMMIOAddr = 0xc000_1000
	virtioMMIOStep = 0x1000
)

// mmioGSIs are the interrupts of the MMIO transport: inputs of the I/O APIC,
// those first that the PICs have too, for a guest without ACPI.
var mmioGSIs = []uint32{5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}

// attachMMIO puts a device behind the MMIO transport. It takes the device over.
func (m *Machine) attachMMIO(d virtio.Device) error {
	n := len(m.words)
	if n == len(mmioGSIs) {
		d.Close()
		return fmt.Errorf("more than %d virtio devices on the MMIO transport; use --transport pci", n)
	}
	gsi := mmioGSIs[n]
	name := m.name(d)
	line, err := m.pulse(name, gsi)
	if err != nil {
		d.Close()
		return err
	}
	t, err := virtio.NewMMIO(d, m.virtioConfig(name), line)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, t.Close)
	m.transports = append(m.transports, t)
	base := uint64(virtioMMIOAddr + n*virtioMMIOStep)
	if err := m.mmio.Insert(base, virtio.MMIOSize, name, t); err != nil {
		return err
	}
	if err := m.doorbells.add(t.Doorbells()).move(base); err != nil {
		return err
	}
	m.described = append(m.described, acpi.VirtioMMIO(n, uint32(base), virtioMMIOStep, gsi))
	m.words = append(m.words, fmt.Sprintf("virtio_mmio.device=4K@%#x:%d", base, gsi))
	return nil
}

// pulse is a new edge-triggered interrupt, of a device with this name, at an
// input of the I/O APIC.
func (m *Machine) pulse(device string, gsi uint32) (devices.Interrupt, error) {
	event, err := devices.NewEvent()
	if err != nil {
		return nil, err
	}
	m.closers = append(m.closers, event.Close)
	return &pulse{event, device, gsi, &m.tracing}, m.vm.AddIRQFD(event.FD(), gsi)
}

// cmdline completes the command line for a guest that does not read the ACPI
// tables: Linux then learns of the devices from it.
func (m *Machine) cmdline(line string) string {
	for _, word := range strings.Fields(line) {
		if word == "acpi=off" {
			return strings.Join(append([]string{line}, m.words...), " ")
		}
	}
	return line
}
