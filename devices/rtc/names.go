package rtc

import "vmm/devices"

var (
	_ devices.Namer  = (*Clock)(nil)
	_ devices.Shower = (*Clock)(nil)
)

// Show implements devices.Shower: the index, the byte that it selects, and the
// control registers.
func (c *Clock) Show() []devices.Value {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []devices.Value{{Register: "index", Bytes: 1, Value: uint64(c.state.index)}}
	for _, i := range []uint8{byteA, byteB} {
		all = append(all, devices.Value{Register: byteNames[i], Offset: regData, Bytes: 1, Value: uint64(c.state.memory[i])})
	}
	return all
}

// byteNames are the bytes of the memory. MC146818 data sheet, "Address Map".
var byteNames = map[uint8]string{
	byteSeconds: "seconds", byteMinutes: "minutes", byteHours: "hours", byteWeekday: "day of week",
	byteDay: "day of month", byteMonth: "month", byteYear: "year", Century: "century",
	0x01: "seconds alarm", 0x03: "minutes alarm", 0x05: "hours alarm",
	byteA: "register A", byteB: "register B", byteC: "register C", byteD: "register D",
}

// Register implements devices.Namer: the data port has the name of the byte that
// the index selects.
func (c *Clock) Register(offset uint64, _ bool) string {
	switch offset {
	case regIndex:
		return "index"
	case regData:
		c.mu.Lock()
		defer c.mu.Unlock()
		if name, ok := byteNames[c.state.index]; ok {
			return name
		}
		return "memory"
	}
	return ""
}

// Meaning implements devices.Namer.
func (c *Clock) Meaning(register string, _ bool, v uint64) string {
	switch register {
	case "index":
		return byteNames[uint8(v)&(memorySize-1)]
	case "register A":
		return devices.Bits(v, "", "", "", "", "", "", "", "update-in-progress")
	case "register B":
		return devices.Bits(v, "DST", "24-hour", "binary", "square-wave", "update-irq", "alarm-irq", "periodic-irq", "set")
	case "register D":
		return devices.Bits(v, "", "", "", "", "", "", "", "valid")
	}
	return ""
}
