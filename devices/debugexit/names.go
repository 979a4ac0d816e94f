package debugexit

import (
	"fmt"

	"vmm/devices"
)

var _ devices.Namer = (*Device)(nil)

// Register implements devices.Namer.
func (d *Device) Register(offset uint64, _ bool) string {
	if offset < Size {
		return "value"
	}
	return ""
}

// Meaning implements devices.Namer.
func (d *Device) Meaning(_ string, write bool, v uint64) string {
	if !write {
		return ""
	}
	return fmt.Sprintf("exit status %d", uint8(v<<1|1))
}
