package acpi

import "fmt"

// Serial is a 16550-compatible serial port, the first of the machine.
func Serial(port uint16, gsi uint32) Term {
	return Dev("COM1",
		Name("_HID", EISAID("PNP0501")),
		Name("_UID", Int(1)),
		Name("_CRS", Resources(Ports(port, 8), IRQ(gsi, true))))
}

// RTC is a PC's clock. Without an interrupt: it has no alarm.
func RTC(port uint16) Term {
	return Dev("RTC_",
		Name("_HID", EISAID("PNP0B00")),
		Name("_CRS", Resources(Ports(port, 2))))
}

// Keyboard is a PC's keyboard, with the ports of its controller.
func Keyboard(data, command uint16, gsi uint32) Term {
	return Dev("KBD_",
		Name("_HID", EISAID("PNP0303")),
		Name("_CRS", Resources(Ports(data, 1), Ports(command, 1), IRQ(gsi, true))))
}

// PowerButton is a power button that is pressed by an interrupt. Hardware-reduced
// ACPI has no register for one; a generic event device tells of it. ACPI 6.5
// §4.8.2.2.1.2, §5.6.9.
func PowerButton(gsi uint32) Term {
	const pressed = 0x80 // §5.6.6, table 5.154
	return concat(
		Dev("PWRB",
			Name("_HID", EISAID("PNP0C0C")),
			Name("_UID", Int(0))),
		Dev("GED_",
			Name("_HID", Str("ACPI0013")),
			Name("_UID", Int(0)),
			Name("_CRS", Resources(IRQ(gsi, true))),
			Method("_EVT", 1, Notify("PWRB", pressed))))
}

// Pvpanic is the device that a guest tells of its panics. QEMU's
// docs/specs/pvpanic.rst gives its identifier.
func Pvpanic(port uint16) Term {
	const present = 0xb // enabled, functioning, not shown to people
	return Dev("PEVT",
		Name("_HID", Str("QEMU0001")),
		Name("_STA", Int(present)),
		Name("_CRS", Resources(Ports(port, 1))))
}

// VirtioMMIO is virtio device number n, with its registers in memory. virtio
// §4.2.3.1 leaves it to platforms how to find one; Linux's driver virtio_mmio
// gives the identifier.
func VirtioMMIO(n int, addr, size uint32, gsi uint32) Term {
	return Dev(fmt.Sprintf("VR%02X", n),
		Name("_HID", Str("LNRO0005")),
		Name("_UID", Int(uint64(n))),
		Name("_CRS", Resources(Memory(addr, size), IRQ(gsi, true))))
}

// PCI is a PCI Express root complex with bus 0 alone. Its devices have their
// registers in the windows, made with Window and HighWindow; that the
// configuration space's memory is taken is said by a device of its own, as Linux
// demands before it uses it. PCI Firmware Specification 3.3 §4.1.2, §4.1.3.
func PCI(configPorts uint16, ecam [2]uint32, windows ...Term) Term {
	return concat(
		Dev("PCI0",
			Name("_HID", EISAID("PNP0A08")),
			Name("_CID", EISAID("PNP0A03")),
			Name("_SEG", Int(0)),
			Name("_BBN", Int(0)),
			Name("_UID", Int(0)),
			Name("_CRS", Resources(BusNumbers(0, 0), Ports(configPorts, 8), concat(windows...)))),
		Dev("MRES",
			Name("_HID", EISAID("PNP0C02")),
			Name("_CRS", Resources(Memory(ecam[0], ecam[1])))))
}
