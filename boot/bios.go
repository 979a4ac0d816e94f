package boot

import "vmm/memory"

// Fields of the BIOS data area, by their addresses. IBM PS/2 and PC BIOS
// Interface Technical Reference, "BIOS Data Areas".
const (
	biosCOM1       = 0x400 // port of the first serial port
	biosExtended   = 0x40e // segment of the extended BIOS data area
	biosEquipment  = 0x410
	biosBaseMemory = 0x413 // in KiB
	biosDataEnd    = 0x500

	portCOM1            = 0x3f8
	equipmentFPU        = 1 << 1
	equipmentOneCOMPort = 1 << 9
)

// writeBIOSData writes what a PC's firmware leaves in the BIOS data area and at
// the start of the extended one, which begins with its size in KiB. A kernel that
// has a segment in the first does without.
func (r *room) writeBIOSData() error {
	if err := r.mem.PutUint16(ExtendedBIOSAddr, 1); err != nil {
		return err
	}
	if !r.free(memory.Range{Start: biosDataAddr, Size: biosDataEnd - biosDataAddr}) {
		return nil
	}
	for _, f := range []struct {
		at    uint64
		value uint16
	}{
		{biosCOM1, portCOM1},
		{biosExtended, ExtendedBIOSAddr >> 4},
		{biosEquipment, equipmentFPU | equipmentOneCOMPort},
		{biosBaseMemory, lowMemoryEnd >> 10},
	} {
		if err := r.mem.PutUint16(f.at, f.value); err != nil {
			return err
		}
	}
	return nil
}
