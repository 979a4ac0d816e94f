package postcode

import "vmm/devices"

var _ devices.Namer = (*Port)(nil)

// Register implements devices.Namer.
func (p *Port) Register(offset uint64, _ bool) string {
	if offset == 0 {
		return "code"
	}
	return ""
}

// Meaning implements devices.Namer: what a code means is the guest's affair.
func (p *Port) Meaning(string, bool, uint64) string { return "" }
