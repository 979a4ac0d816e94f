package pci

import "vmm/devices"

var (
	_ devices.Shower = (*ecam)(nil)
	_ devices.Shower = (*msixTable)(nil)
)

// Show implements devices.Shower: what every function's header begins with, and
// where its registers are.
func (e *ecam) Show() []devices.Value {
	var all []devices.Value
	for slot := range e.functions {
		for _, r := range []struct {
			offset uint64
			bytes  int
		}{{regVendor, 2}, {regDevice, 2}, {regCommand, 2}, {regBAR0, 8}} {
			offset := uint64(slot)<<15 | r.offset
			var data [8]byte
			e.Read(offset, data[:r.bytes])
			all = append(all, devices.Value{Register: e.Register(offset, false), Offset: offset, Bytes: r.bytes, Value: le.Uint64(data[:])})
		}
	}
	return all
}

// Show implements devices.Shower.
func (t *msixTable) Show() []devices.Value {
	var all []devices.Value
	for offset := uint64(0); offset < uint64(len(t.vectors)*entrySize); offset += 4 {
		var data [8]byte
		t.Read(offset, data[:4])
		all = append(all, devices.Value{Register: t.Register(offset, false), Offset: offset, Bytes: 4, Value: le.Uint64(data[:])})
	}
	return all
}
