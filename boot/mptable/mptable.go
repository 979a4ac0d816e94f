// Package mptable builds the tables by which a PC's firmware described processors
// and interrupts before there was ACPI: MultiProcessor Specification 1.4 ("MPS").
// Kernels without ACPI still look for them.
package mptable

import (
	"encoding/binary"
	"fmt"
)

var le = binary.LittleEndian

// PointerSize is the size of the floating pointer structure, in bytes.
const PointerSize = 16

// Config is what the tables describe: a PC with an ISA bus, and with an I/O APIC
// whose inputs are those of the two PICs, but for the timer's.
type Config struct {
	// CPUs is the number of processors. Their APIC IDs count from 0, the boot
	// processor's.
	CPUs int
	// PCI says that there is a PCI bus.
	PCI bool
}

// MaxCPUs is how many processors a table can hold: those with an APIC ID of one
// byte that is not the broadcast's, and one ID for the I/O APIC.
const MaxCPUs = 254

// Physical addresses of the interrupt controllers, and the version of both that
// KVM shows.
const (
	localAPICAddr = 0xfee0_0000
	ioAPICAddr    = 0xfec0_0000
	localVersion  = 0x14
	ioVersion     = 0x11
)

// Types of entries. MPS §4.3.
const (
	entryProcessor = 0
	entryBus       = 1
	entryIOAPIC    = 2
	entryInterrupt = 3
	entryLocal     = 4
)

// Types of interrupts. MPS table 4-10.
const (
	typeINT    = 0
	typeNMI    = 1
	typeExtINT = 3
)

// isaInterrupts is how many interrupts the two PICs have, and timerPin the I/O
// APIC's input for the timer's, number 0. On that of the same number is the PICs'
// output.
const (
	isaInterrupts = 16
	timerPin      = 2
	cascade       = 2 // where the second PIC is connected: nothing else is
)

// Pointer is the floating pointer structure for a table at an address. It goes
// to a multiple of 16 in the first KiB of the extended BIOS data area. MPS §4.1.
func Pointer(table uint32) []byte {
	p := []byte("_MP_")
	p = le.AppendUint32(p, table)
	// Length in 16 bytes, revision 1.4, checksum; no default configuration,
	// and no IMCR: virtual wire mode. MPS §3.6.2.
	p = append(p, 1, 4, 0, 0, 0, 0, 0, 0)
	p[10] = checksum(p)
	return p
}

// Build returns the configuration table. MPS §4.2, §4.3.
func Build(c Config) ([]byte, error) {
	if c.CPUs < 1 || c.CPUs > MaxCPUs {
		return nil, fmt.Errorf("mptable: %d processors; it holds 1 to %d", c.CPUs, MaxCPUs)
	}
	t := []byte("PCMP")
	t = append(t, 0, 0, 4, 0) // length; revision 1.4; checksum
	t = append(t, "VMM     "...)
	t = append(t, "VMMPC       "...)
	t = append(t, make([]byte, 6)...) // no table of the manufacturer's
	t = append(t, 0, 0)               // how many entries
	t = le.AppendUint32(t, localAPICAddr)
	t = append(t, 0, 0, 0, 0) // nothing beyond the specification 1.1
	entries := c.entries()
	le.PutUint16(t[34:], uint16(len(entries)))
	for _, e := range entries {
		t = append(t, e...)
	}
	le.PutUint16(t[4:], uint16(len(t)))
	t[7] = checksum(t)
	return t, nil
}

// entries are those of the table, in the order of their types.
func (c Config) entries() [][]byte {
	const (
		enabled, boot  = 1 << 0, 1 << 1
		signature      = 0x600       // family 6; CPUID says it better
		features       = 1<<9 | 1<<0 // APIC, FPU
		allProcessors  = 0xff
		isaBus, pciBus = 0, 1
	)
	ioAPICID := byte(c.CPUs) // the first that no processor has
	var all [][]byte
	for id := range c.CPUs {
		flags := byte(enabled)
		if id == 0 {
			flags |= boot
		}
		e := []byte{entryProcessor, byte(id), localVersion, flags}
		e = le.AppendUint32(e, signature)
		e = le.AppendUint32(e, features)
		all = append(all, append(e, make([]byte, 8)...))
	}
	bus := func(id byte, name string) { all = append(all, append([]byte{entryBus, id}, name...)) }
	bus(isaBus, "ISA   ")
	if c.PCI {
		bus(pciBus, "PCI   ")
	}
	all = append(all, le.AppendUint32([]byte{entryIOAPIC, ioAPICID, ioVersion, enabled}, ioAPICAddr))
	interrupt := func(entry, kind, source, to, pin byte) {
		// The flags are zero: polarity and trigger are the bus's.
		all = append(all, []byte{entry, kind, 0, 0, isaBus, source, to, pin})
	}
	for irq := range byte(isaInterrupts) {
		switch irq {
		case 0:
			interrupt(entryInterrupt, typeINT, irq, ioAPICID, timerPin)
		case cascade:
		default:
			interrupt(entryInterrupt, typeINT, irq, ioAPICID, irq)
		}
	}
	interrupt(entryLocal, typeExtINT, 0, 0, 0) // LINT0, of the boot processor
	interrupt(entryLocal, typeNMI, 0, allProcessors, 1)
	return all
}

// checksum is the byte that makes the sum of all bytes zero.
func checksum(t []byte) byte {
	var sum byte
	for _, b := range t {
		sum += b
	}
	return -sum
}
