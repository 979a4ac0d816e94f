package acpi

import (
	"fmt"
)

// Config is what the tables describe.
type Config struct {
	// CPUs is the number of processors. Their APIC IDs count from 0.
	CPUs int
	// Ports of the registers of hardware-reduced ACPI, one byte each.
	SleepControl, SleepStatus, Reset uint16
	// ResetValue, written to the port Reset, resets the machine.
	ResetValue byte
	// SleepTypeS5 is the value of SLP_TYP that switches the machine off.
	SleepTypeS5 byte
	// CenturyRegister is the byte of the clock's memory that holds the
	// century.
	CenturyRegister byte
	// ECAM is where the configuration space of PCI bus 0 lies in memory; 0
	// for a machine without PCI.
	ECAM uint64
	// Keyboard says that there is a keyboard controller to look for.
	Keyboard bool
	// Devices are the devices below \_SB, made with Dev.
	Devices []Term
}

// Physical addresses of the interrupt controllers that KVM provides.
const (
	localAPICAddr = 0xfee0_0000
	ioAPICAddr    = 0xfec0_0000
)

// Sizes of structures, in bytes.
const (
	rsdpSize   = 36
	headerSize = 36
	fadtSize   = 276 // of revision 6
)

// Build returns the tables as one piece of memory for guest-physical address
// base, which must be a multiple of 16. The root pointer comes first.
func Build(base uint64, c Config) ([]byte, error) {
	if c.CPUs < 1 || c.CPUs > 254 {
		return nil, fmt.Errorf("acpi: %d processors do not have one-byte APIC IDs", c.CPUs)
	}
	image := make([]byte, rsdpSize)
	place := func(table []byte) uint64 {
		for len(image)%16 != 0 {
			image = append(image, 0)
		}
		addr := base + uint64(len(image))
		image = append(image, table...)
		return addr
	}
	dsdt := place(c.dsdt())
	fadt := place(c.fadt(dsdt))
	madt := place(c.madt())
	tables := []uint64{fadt, madt}
	if c.ECAM != 0 {
		tables = append(tables, place(c.mcfg()))
	}
	xsdt := place(xsdt(tables...))
	copy(image, rsdp(xsdt))
	return image, nil
}

// rsdp is the Root System Description Pointer. ACPI 6.5 §5.2.5.3.
func rsdp(xsdt uint64) []byte {
	t := []byte("RSD PTR ")
	t = append(t, 0) // checksum of the first 20 bytes
	t = append(t, oemID...)
	t = append(t, 2)          // revision
	t = le.AppendUint32(t, 0) // no RSDT
	t = le.AppendUint32(t, rsdpSize)
	t = le.AppendUint64(t, xsdt)
	t = append(t, 0, 0, 0, 0) // checksum of all; reserved
	t[8] = checksum(t[:20])
	t[32] = checksum(t)
	return t
}

const oemID = "VMM   "

// header is the beginning of a table, to be completed by finish. ACPI 6.5
// §5.2.6.
func header(signature string, revision byte) []byte {
	t := append(make([]byte, 0, 512), signature...)
	t = le.AppendUint32(t, 0) // length
	t = append(t, revision, 0)
	t = append(t, oemID...)
	t = append(t, "VMMPC   "...)
	t = le.AppendUint32(t, 1)
	t = append(t, "VMM "...)
	return le.AppendUint32(t, 1)
}

// finish fills in a table's length and checksum.
func finish(t []byte) []byte {
	le.PutUint32(t[4:], uint32(len(t)))
	t[9] = checksum(t)
	return t
}

// checksum is the byte that makes the sum of all bytes zero.
func checksum(t []byte) byte {
	var sum byte
	for _, b := range t {
		sum += b
	}
	return -sum
}

// xsdt is the Extended System Description Table: where the others are. ACPI
// 6.5 §5.2.8.
func xsdt(tables ...uint64) []byte {
	t := header("XSDT", 1)
	for _, addr := range tables {
		t = le.AppendUint64(t, addr)
	}
	return finish(t)
}

// Flags of the FADT. ACPI 6.5 §5.2.9, table 5.10.
const (
	fadtWBINVD          = 1 << 0
	fadtSleepButton     = 1 << 5 // none of the fixed kind
	fadtPowerButton     = 1 << 4 // none of the fixed kind
	fadtResetRegister   = 1 << 10
	fadtHardwareReduced = 1 << 20
)

// IA-PC boot flags of the FADT. ACPI 6.5 §5.2.9.3, table 5.11. Without the flag
// for an 8042, Linux does not search for a keyboard.
const (
	bootLegacyDevices = 1 << 0 // on the ISA bus: the serial port and the clock
	boot8042          = 1 << 1
	bootNoVGA         = 1 << 2
	bootNoASPM        = 1 << 4
)

// fadt is the Fixed ACPI Description Table. ACPI 6.5 §5.2.9.
func (c *Config) fadt(dsdt uint64) []byte {
	t := header("FACP", 6)[:fadtSize]
	le.PutUint32(t[40:], uint32(dsdt))
	t[108] = c.CenturyRegister
	flags := uint16(bootLegacyDevices | bootNoVGA | bootNoASPM)
	if c.Keyboard {
		flags |= boot8042
	}
	le.PutUint16(t[109:], flags)
	le.PutUint32(t[112:], fadtWBINVD|fadtPowerButton|fadtSleepButton|fadtResetRegister|fadtHardwareReduced)
	copy(t[116:], portRegister(c.Reset))
	t[128] = c.ResetValue
	t[131] = 5 // minor revision
	le.PutUint64(t[140:], dsdt)
	copy(t[244:], portRegister(c.SleepControl))
	copy(t[256:], portRegister(c.SleepStatus))
	return finish(t)
}

// portRegister is a Generic Address Structure for a one-byte port. ACPI 6.5
// §5.2.3.2.
func portRegister(port uint16) []byte {
	const systemIO, bits, byteAccess = 1, 8, 1
	return le.AppendUint64([]byte{systemIO, bits, 0, byteAccess}, uint64(port))
}

// Types of interrupt controller structures in the MADT. ACPI 6.5 §5.2.12.
const (
	madtLocalAPIC    = 0
	madtIOAPIC       = 1
	madtOverride     = 2
	madtLocalAPICNMI = 4
)

// madt is the Multiple APIC Description Table: processors and interrupt
// controllers. ACPI 6.5 §5.2.12.
func (c *Config) madt() []byte {
	const (
		pcatCompatible = 1 // there are PICs too
		enabled        = 1
		allProcessors  = 0xff
		ioAPICID       = 0
	)
	t := header("APIC", 6)
	t = le.AppendUint32(t, localAPICAddr)
	t = le.AppendUint32(t, pcatCompatible)
	for id := range c.CPUs {
		t = append(t, madtLocalAPIC, 8, byte(id), byte(id))
		t = le.AppendUint32(t, enabled)
	}
	t = append(t, madtIOAPIC, 12, ioAPICID, 0)
	t = le.AppendUint32(t, ioAPICAddr)
	t = le.AppendUint32(t, 0) // its first global interrupt
	// Each ISA interrupt leads to the I/O APIC's input of the same number, but
	// for the PIT's. It is as the bus has it: edge-triggered, active high.
	const isaBus, timer, timerInput = 0, 0, 2
	t = append(t, madtOverride, 10, isaBus, timer)
	t = le.AppendUint32(t, timerInput)
	t = append(t, 0, 0)
	return finish(append(t, madtLocalAPICNMI, 6, allProcessors, 0, 0, 1)) // LINT1
}

// mcfg says where the configuration space of PCI lies in memory. PCI Firmware
// Specification 3.3 §4.1.2.
func (c *Config) mcfg() []byte {
	t := append(header("MCFG", 1), make([]byte, 8)...)
	t = le.AppendUint64(t, c.ECAM)
	t = append(t, 0, 0, 0, 0)            // segment, first bus, last bus
	return finish(append(t, 0, 0, 0, 0)) // reserved
}

// dsdt is the Differentiated System Description Table: devices, and how to
// sleep. ACPI 6.5 §5.2.11.1.
func (c *Config) dsdt() []byte {
	t := header("DSDT", 2)
	t = append(t, Scope("_SB_", c.Devices...)...)
	// ACPI 6.5 §7.4.2: the values of SLP_TYP for the soft-off state.
	t = append(t, Name("_S5_", Package(Int(uint64(c.SleepTypeS5)), Int(0)))...)
	return finish(t)
}
