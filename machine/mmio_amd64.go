package machine

import (
	"fmt"
	"slices"
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

	mmioWord = "virtio_mmio.device=" // of the command line
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
	m.parts = append(m.parts, part{name, t.Close})
	m.transports = append(m.transports, t)
	base := uint64(virtioMMIOAddr + n*virtioMMIOStep)
	if err := m.mmio.Insert(base, virtio.MMIOSize, name, t); err != nil {
		return err
	}
	if err := m.doorbells.add(t.Doorbells()).move(base); err != nil {
		return err
	}
	m.described = append(m.described, acpi.VirtioMMIO(n, uint32(base), virtioMMIOStep, gsi))
	m.words = append(m.words, fmt.Sprintf("%s4K@%#x:%d", mmioWord, base, gsi))
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

// mmioPlaceholder stands, in a command line, for the words with which a kernel
// without ACPI learns of the devices on the MMIO transport.
const mmioPlaceholder = "{virtio_mmio}"

// cmdline completes a command line by the words for devices on the MMIO transport,
// virtio_mmio.device=SIZE@ADDRESS:INTERRUPT, as Firecracker does it: where the line
// has the placeholder, or else at its end for a kernel that is not known to read
// the ACPI tables. Linux is, unless the line says acpi=off. What follows "--" is
// not the kernel's.
// Documentation/admin-guide/kernel-parameters.txt.
func (m *Machine) cmdline(line string, linux bool) string {
	words := strings.Join(m.words, " ")
	switch {
	case strings.Contains(line, mmioPlaceholder):
		return strings.ReplaceAll(line, mmioPlaceholder, words)
	case strings.Contains(line, mmioWord):
		return line // whoever wrote it knows better
	case linux && !slices.Contains(strings.Fields(line), "acpi=off"):
		return line
	}
	kernel, program, more := strings.Cut(" "+line, " -- ")
	line = strings.TrimSpace(kernel + " " + words)
	if more {
		line += " -- " + program
	}
	return line
}
