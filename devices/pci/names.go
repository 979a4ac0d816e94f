package pci

import (
	"fmt"
	"strings"

	"vmm/devices"
)

var (
	_ devices.Namer  = (*ports)(nil)
	_ devices.Namer  = (*ecam)(nil)
	_ devices.Namer  = (*msixTable)(nil)
	_ devices.Namer  = (*msixPending)(nil)
	_ devices.Window = (*memory)(nil)
)

// Find implements devices.Space.
func (m *memory) Find(addr uint64) (devices.Device, string, uint64) {
	for _, f := range m.functions {
		if at := f.at.Load(); at != 0 && addr-at < f.size {
			return f.bar, f.Name, addr - at
		}
	}
	return nil, "", 0
}

// Each implements devices.Window.
func (m *memory) Each(f func(base, size uint64, name string, d devices.Device)) {
	for _, function := range m.functions {
		if at := function.at.Load(); at != 0 {
			f(at, function.size, function.Name, function.bar)
		}
	}
}

// headerNames are the registers of a configuration space's header, by offset.
// PCI §6.1, figure 6-1.
var headerNames = map[uint64]string{
	regVendor: "Vendor ID", regDevice: "Device ID", regCommand: "Command", regStatus: "Status",
	regRevision: "Revision ID", regClass: "Class Code", 0x0a: "Class Code", 0x0b: "Class Code", 0x0c: "Cache Line Size", 0x0d: "Latency Timer",
	0x0e: "Header Type", 0x0f: "BIST", regBAR0: "BAR 0", regBAR0 + 4: "BAR 0 high", 0x18: "BAR 2", 0x1c: "BAR 3",
	0x20: "BAR 4", 0x24: "BAR 5", 0x28: "CardBus CIS", regSubVendor: "Subsystem Vendor ID",
	regSubDevice: "Subsystem ID", 0x30: "Expansion ROM", regCapability: "Capabilities Pointer",
	0x3c: "Interrupt Line", 0x3d: "Interrupt Pin", 0x3e: "Min_Gnt", 0x3f: "Max_Lat",
}

// name is the name of a register in the configuration space of a function of
// this bus.
func (r *Root) name(bus, slot, function uint32, reg uint64) string {
	at := fmt.Sprintf("%02x:%02x.%x ", bus, slot, function)
	f := r.function(bus, slot, function)
	if f == nil {
		if name, ok := headerNames[reg]; ok {
			return at + name
		}
		return at + fmt.Sprintf("%#x", reg)
	}
	if f.Name != "" {
		at += f.Name + " "
	}
	if name, ok := headerNames[reg]; ok {
		return at + name
	}
	for _, c := range f.caps {
		if off := int(reg) - c.start; off >= 0 && int(reg) < c.end {
			return at + capabilityName(f.space[c.start], off)
		}
	}
	return at + fmt.Sprintf("%#x", reg)
}

// capabilityName is the name of a register of a capability. PCI §6.7, §6.8.2.
func capabilityName(id byte, off int) string {
	switch {
	case off == 0:
		return "Capability ID"
	case off == 1:
		return "Next Pointer"
	case id == capMSIX && off == 2:
		return "MSI-X Message Control"
	case id == capMSIX && off == 4:
		return "MSI-X Table"
	case id == capMSIX && off == 8:
		return "MSI-X PBA"
	}
	return fmt.Sprintf("capability %#x+%d", id, off)
}

// meaning says what a value of a register with such a name means.
func meaning(register string, v uint64) string {
	switch {
	case strings.HasSuffix(register, "Vendor ID") && v&0xffff == 0xffff:
		return "nothing there"
	case strings.HasSuffix(register, " Command"):
		return devices.Bits(v, "I/O", "memory", "bus-master")
	case strings.HasSuffix(register, "Message Control"):
		return strings.TrimSpace(fmt.Sprintf("%d vectors ", v&0x7ff+1) + devices.Bits(v>>14, "masked", "enabled"))
	}
	return ""
}

// Register implements devices.Namer.
func (p *ports) Register(offset uint64, _ bool) string {
	if offset < 4 {
		return "CONFIG_ADDRESS"
	}
	a := p.address.Load()
	if a>>31 == 0 {
		return "CONFIG_DATA"
	}
	return (*Root)(p).name(a>>16&0xff, a>>11&0x1f, a>>8&7, uint64(a&0xfc)+offset-4)
}

// Meaning implements devices.Namer.
func (p *ports) Meaning(register string, _ bool, v uint64) string {
	if register == "CONFIG_ADDRESS" {
		return fmt.Sprintf("%02x:%02x.%x register %#x", v>>16&0xff, v>>11&0x1f, v>>8&7, v&0xfc)
	}
	return meaning(register, v)
}

// Register implements devices.Namer.
func (e *ecam) Register(offset uint64, _ bool) string {
	return (*Root)(e).name(uint32(offset>>20), uint32(offset>>15&0x1f), uint32(offset>>12&7), offset&0xfff)
}

// Meaning implements devices.Namer.
func (e *ecam) Meaning(register string, _ bool, v uint64) string { return meaning(register, v) }

// entryNames are the words of an entry of the MSI-X table. PCI §6.8.2.6.
var entryNames = [...]string{"Message Address", "Message Upper Address", "Message Data", "Vector Control"}

// Register implements devices.Namer.
func (t *msixTable) Register(offset uint64, _ bool) string {
	if i := offset / entrySize; i < uint64(len(t.vectors)) {
		return fmt.Sprintf("MSI-X %d %s", i, entryNames[offset%entrySize/4])
	}
	return ""
}

// Meaning implements devices.Namer.
func (t *msixTable) Meaning(register string, _ bool, v uint64) string {
	if strings.HasSuffix(register, "Vector Control") {
		return devices.Bits(v, "masked")
	}
	return ""
}

// Register implements devices.Namer.
func (p *msixPending) Register(uint64, bool) string { return "MSI-X pending bits" }

// Meaning implements devices.Namer.
func (p *msixPending) Meaning(string, bool, uint64) string { return "" }
