package boot

import "vmm/memory"

// Place is a piece of guest memory that the boot loader has used.
type Place struct {
	memory.Range
	Name string
}

// Places are what lies where when the guest begins, in the order of addresses.
// The guest is free to use all of it for something else, and will.
func (e Entry) Places() []Place {
	low := []Place{{memory.Range{Start: gdtAddr, Size: memory.PageSize}, "boot GDT"}}
	if e.RBX == startInfoAddr {
		low = append(low, Place{memory.Range{Start: startInfoAddr, Size: memory.PageSize}, "start information (PVH, Multiboot)"})
	}
	if e.RSI == zeroPageAddr {
		low = append(low, Place{memory.Range{Start: zeroPageAddr, Size: memory.PageSize}, "zero page (boot_params)"})
	}
	if e.Mode == LongMode {
		low = append(low, Place{memory.Range{Start: pageTablesAddr, Size: pageTablesEnd - pageTablesAddr}, "boot page tables"})
	}
	low = append(low,
		Place{memory.Range{Start: cmdlineAddr, Size: uint64(len(e.Cmdline)) + 1}, "command line"},
		Place{memory.Range{Start: ACPIAddr, Size: ACPISize}, "ACPI tables"},
		Place{e.Kernel, "kernel, with room to start"})
	if e.Initrd.Size > 0 {
		low = append(low, Place{e.Initrd, "initrd"})
	}
	return low
}
