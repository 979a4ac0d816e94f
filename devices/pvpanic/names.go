package pvpanic

import "vmm/devices"

var _ devices.Namer = (*Device)(nil)

// Register implements devices.Namer.
func (d *Device) Register(offset uint64, write bool) string {
	switch {
	case offset != 0:
		return ""
	case write:
		return "events"
	}
	return "supported"
}

// Meaning implements devices.Namer.
func (d *Device) Meaning(_ string, _ bool, v uint64) string { return Event(v).String() }
