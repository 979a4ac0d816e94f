package boot

import (
	"cmp"
	"fmt"
	"slices"

	"vmm/memory"
)

// What lies below 1 MiB when the kernel starts, in guest-physical addresses:
//
//	0x00000  interrupt vectors of a PC, zero
//	0x00400  BIOS data area
//	0x01000  global descriptor table
//	0x02000  PVH start_info or Multiboot information, with all that it leads to
//	0x07000  zero page (struct boot_params)
//	0x08000  stack, should an entry point want one; it grows down from 0x9000
//	0x09000  page tables, up to 0x20000: the root at 0x9000, the next level at
//	         0xa000, the first gigabyte's at 0xb000, where Firecracker and Cloud
//	         Hypervisor have them; more for a kernel that lies above 4 GiB
//	0x20000  command line
//	0x9fc00  extended BIOS data area, with the pointer to the MP table
//	0xa0000  no RAM up to here, for the kernel
//	0xf0000  ACPI tables and the MP table, where software looks for them
//
// All but the BIOS's areas go elsewhere where the kernel itself has a segment
// there: see room.
const (
	biosDataAddr   = 0x400
	gdtAddr        = 0x1000
	startInfoAddr  = 0x2000
	startInfoEnd   = zeroPageAddr
	zeroPageAddr   = 0x7000
	stackAddr      = 0x8000
	pageTablesAddr = 0x9000
	pageTablesEnd  = cmdlineAddr
	cmdlineAddr    = 0x20000
	lowMemoryEnd   = 0x9fc00
	videoMemory    = 0xa0000 // and what else is no RAM on a PC

	// ExtendedBIOSAddr is the extended BIOS data area: the last KiB of a PC's
	// 640 of low memory.
	ExtendedBIOSAddr = lowMemoryEnd
	// FirmwareAddr is where the firmware's tables go, the ACPI root pointer
	// first. ACPI 6.5 §5.2.5.1 and MultiProcessor Specification 1.4 §4 have
	// software search from here to 0xfffff.
	FirmwareAddr = 0xf0000
	// FirmwareSize is the room for them, in bytes.
	FirmwareSize = highMemory - FirmwareAddr

	// highMemory is where RAM above the tables begins.
	highMemory = 0x10_0000
)

// Types of ranges in the memory map. ACPI 6.5 §15, table 15.9.
const (
	typeRAM      = 1
	typeReserved = 2
)

// mapEntry is a range of the memory map given to the kernel.
type mapEntry struct {
	memory.Range
	kind uint32
}

// memoryMap describes mem to the kernel, as a PC's firmware does: of what lies
// between low memory and the firmware it says nothing.
func memoryMap(mem *memory.Guest) []mapEntry {
	entries := []mapEntry{
		{memory.Range{Start: 0, Size: lowMemoryEnd}, typeRAM},
		{memory.Range{Start: ExtendedBIOSAddr, Size: videoMemory - ExtendedBIOSAddr}, typeReserved},
		{memory.Range{Start: FirmwareAddr, Size: FirmwareSize}, typeReserved},
	}
	for _, r := range mem.Regions() {
		if r.Start == 0 {
			r.Start, r.Size = highMemory, r.Size-highMemory
		}
		entries = append(entries, mapEntry{r.Range, typeRAM})
	}
	return entries
}

// lowRAM is the RAM above the tables and below the hole, where kernel and
// initrd go.
func lowRAM(mem *memory.Guest) memory.Range {
	end := mem.Regions()[0].End()
	if end <= highMemory {
		return memory.Range{Start: highMemory}
	}
	return memory.Range{Start: highMemory, Size: end - highMemory}
}

// room finds places in memory for what a kernel is told, apart from the kernel
// and its initrd.
type room struct {
	mem   *memory.Guest
	taken []memory.Range // by the kernel, its initrd, and what has been placed
	told  []Place        // what has been placed
}

// free reports whether nothing lies in a range.
func (r *room) free(want memory.Range) bool {
	return !slices.ContainsFunc(r.taken, want.Overlaps)
}

// place gives size bytes a name and an address: the one that is preferred, or,
// where the kernel has that, the lowest page of RAM behind which there is room.
func (r *room) place(name string, preferred, size uint64) (uint64, error) {
	at, ok := preferred, r.free(memory.Range{Start: preferred, Size: size})
	for _, ram := range []memory.Range{{Start: gdtAddr, Size: lowMemoryEnd - gdtAddr}, lowRAM(r.mem)} {
		if !ok {
			at, ok = r.firstFit(ram, size)
		}
	}
	if !ok {
		return 0, fmt.Errorf("no room in memory for the %s beside the kernel; choose a larger --memory", name)
	}
	found := memory.Range{Start: at, Size: size}
	r.taken = append(r.taken, found)
	r.told = append(r.told, Place{found, name})
	return at, nil
}

// firstFit is the lowest free place for size bytes that begins at a page of a
// range.
func (r *room) firstFit(in memory.Range, size uint64) (uint64, bool) {
	taken := slices.SortedFunc(slices.Values(r.taken), func(a, b memory.Range) int { return cmp.Compare(a.Start, b.Start) })
	at := pageUp(in.Start)
	for _, t := range taken {
		if (memory.Range{Start: at, Size: size}).Overlaps(t) {
			at = pageUp(t.End())
		}
	}
	return at, at >= in.Start && at <= in.End() && in.End()-at >= size
}
