// Package power is what is left of a PC's power management when ACPI is
// hardware-reduced: three registers of one byte each, to switch the machine
// off and to reset it. ACPI 6.5 §4.8.3.6 and §4.8.3.7.
package power

import "vmm/devices"

// Offsets of the registers. A port or address for each goes into the FADT.
const (
	SleepControl = 0
	SleepStatus  = 1
	Reset        = 2

	// Size is the number of addresses that the registers occupy.
	Size = 4
)

const (
	// TypeS5 is the sleep type that switches the machine off, for the object
	// \_S5 of the DSDT.
	TypeS5 = 5
	// ResetValue, written to Reset, resets the machine.
	ResetValue = 1
)

// Bits of the sleep control register. ACPI 6.5 §4.8.3.7.
const (
	sleepTypeShift = 2
	sleepTypeMask  = 7
	sleepEnable    = 1 << 5
)

// Registers are the power registers. They have no state.
type Registers struct {
	off, reset func()
}

// New returns registers that call off and reset.
func New(off, reset func()) *Registers { return &Registers{off, reset} }

var _ devices.Device = (*Registers)(nil)

// Read implements devices.Device. All registers read as 0: the bits of sleep
// control are write-only or ignored, and the machine has never woken up.
func (r *Registers) Read(_ uint64, data []byte) { clear(data) }

// Write implements devices.Device.
func (r *Registers) Write(offset uint64, data []byte) { devices.EachByte(offset, data, r.write) }

func (r *Registers) write(offset uint64, data []byte) {
	v := data[0]
	switch {
	case offset == SleepControl && v&sleepEnable != 0 && v>>sleepTypeShift&sleepTypeMask == TypeS5:
		r.off()
	case offset == Reset && v == ResetValue:
		r.reset()
	}
}
