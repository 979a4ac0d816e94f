package boot

import "vmm/memory"

// What lies below 1 MiB when the kernel starts, in guest-physical addresses:
//
//	0x00000  interrupt vectors and BIOS data area of a PC, zero
//	0x01000  global descriptor table
//	0x02000  PVH start_info, module list, memory map
//	0x07000  zero page (struct boot_params)
//	0x08000  stack, should an entry point want one; it grows down from 0x9000
//	0x09000  page tables, up to 0x20000: six of them, and more for a kernel
//	         that lies above 4 GiB
//	0x20000  command line
//	0x9fc00  end of usable memory: an extended BIOS data area on a PC
//	0xe0000  ACPI tables, in the range where software looks for them
const (
	gdtAddr        = 0x1000
	startInfoAddr  = 0x2000
	zeroPageAddr   = 0x7000
	stackTop       = 0x9000
	pageTablesAddr = 0x9000
	pageTablesEnd  = cmdlineAddr
	cmdlineAddr    = 0x20000
	lowMemoryEnd   = 0x9fc00

	// ACPIAddr is where the ACPI tables go, the root pointer first. ACPI 6.5
	// §5.2.5.1 has old software search from here to 0xfffff.
	ACPIAddr = 0xe0000
	// ACPISize is the room for them, in bytes.
	ACPISize = highMemory - ACPIAddr

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

// memoryMap describes mem to the kernel, as a PC's firmware would.
func memoryMap(mem *memory.Guest) []mapEntry {
	entries := []mapEntry{
		{memory.Range{Start: 0, Size: lowMemoryEnd}, typeRAM},
		{memory.Range{Start: lowMemoryEnd, Size: highMemory - lowMemoryEnd}, typeReserved},
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
