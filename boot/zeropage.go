package boot

import (
	"encoding/binary"

	"vmm/memory"
)

// Offsets in the zero page. Documentation/arch/x86/zero-page.rst.
const (
	zpRSDP           = 0x070
	zpExtRamdisk     = 0x0c0
	zpExtRamdiskSize = 0x0c4
	zpE820Entries    = 0x1e8
	zpE820Table      = 0x2d0

	e820EntrySize = 20
)

// Values of the setup header that a loader fills in.
const (
	loaderUndefined = 0xff   // type_of_loader: none with a number of its own
	vidModeNormal   = 0xffff // vid_mode: "normal"
	heapEnd         = 0xfe00 // heap_end_ptr: the recommended end, less 0x200
)

// writeZeroPage writes struct boot_params, to where RSI points: the setup header
// with the loader's fields filled in, and the memory map.
func writeZeroPage(mem *memory.Guest, h SetupHeader, e Entry, cmdline, rsdp uint64) error {
	h.TypeOfLoader = loaderUndefined
	h.VidMode = vidModeNormal
	h.LoadFlags |= canUseHeap
	h.HeapEndPtr = heapEnd
	h.CmdLinePtr = uint32(cmdline)
	h.RamdiskImage = uint32(e.Initrd.Start)
	h.RamdiskSize = uint32(e.Initrd.Size)

	page := make([]byte, memory.PageSize)
	if _, err := binary.Encode(page[headerOffset:], le, &h); err != nil {
		return err
	}
	le.PutUint64(page[zpRSDP:], rsdp)
	le.PutUint32(page[zpExtRamdisk:], uint32(e.Initrd.Start>>32))
	le.PutUint32(page[zpExtRamdiskSize:], uint32(e.Initrd.Size>>32))
	table := page[zpE820Table:]
	for i, m := range memoryMap(mem) {
		page[zpE820Entries]++
		le.PutUint64(table[i*e820EntrySize:], m.Start)
		le.PutUint64(table[i*e820EntrySize+8:], m.Size)
		le.PutUint32(table[i*e820EntrySize+16:], m.kind)
	}
	_, err := mem.WriteAt(page, int64(e.RSI))
	return err
}
