package boot

import (
	"cmp"
	"slices"

	"vmm/memory"
)

// Place is a piece of guest memory that the boot loader has used.
type Place struct {
	memory.Range
	Name string
}

// Places are what lies where when the guest begins, in the order of addresses.
// The guest is free to use all of it for something else, and will.
func (e Entry) Places() []Place {
	all := append(slices.Clone(e.Told),
		Place{memory.Range{Start: FirmwareAddr, Size: FirmwareSize}, "ACPI tables, MP table"},
		Place{e.Kernel, "kernel, with room to start"})
	if e.Initrd.Size > 0 {
		all = append(all, Place{e.Initrd, "initrd"})
	}
	for _, m := range e.Modules {
		all = append(all, Place{m.Range, "module"})
	}
	slices.SortStableFunc(all, func(a, b Place) int { return cmp.Compare(a.Start, b.Start) })
	return all
}
