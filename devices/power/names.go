package power

import (
	"fmt"

	"vmm/devices"
)

var _ devices.Namer = (*Registers)(nil)

// Register implements devices.Namer, with the names of ACPI §4.8.3.7.
func (r *Registers) Register(offset uint64, _ bool) string {
	switch offset {
	case SleepControl:
		return "SLEEP_CONTROL"
	case SleepStatus:
		return "SLEEP_STATUS"
	case Reset:
		return "RESET"
	}
	return ""
}

// Meaning implements devices.Namer.
func (r *Registers) Meaning(register string, write bool, v uint64) string {
	switch {
	case register == "SLEEP_CONTROL" && write && v&sleepEnable != 0:
		return fmt.Sprintf("enter S%d", v>>sleepTypeShift&sleepTypeMask)
	case register == "RESET" && write && v == ResetValue:
		return "reset"
	}
	return ""
}
