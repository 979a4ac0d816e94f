package boot

import (
	"encoding/binary"

	"vmm/memory"
)

var le = binary.LittleEndian

// Descriptors of the boot GDT: flat, present, privilege level 0. Intel SDM
// vol. 3 §3.4.5. Selectors 0x10 and 0x18 are those that
// Documentation/arch/x86/boot.rst prescribes.
const (
	descCode64 = 0x00af_9b00_0000_ffff
	descCode32 = 0x00cf_9b00_0000_ffff
	descData   = 0x00cf_9300_0000_ffff
	descTSS    = 0x0000_8b00_0000_0067
)

// writeGDT writes the descriptor table for a mode and says where it lies.
func writeGDT(mem *memory.Guest, mode Mode) (Table, error) {
	code := uint64(descCode32)
	if mode == LongMode {
		code = descCode64
	}
	descriptors := []uint64{0, 0, code, descData, descTSS, 0}
	for i, d := range descriptors {
		if err := mem.PutUint64(gdtAddr+uint64(i)*8, d); err != nil {
			return Table{}, err
		}
	}
	return Table{Base: gdtAddr, Limit: uint16(len(descriptors)*8 - 1)}, nil
}

// Bits of page-table entries. Intel SDM vol. 3 §4.5.4.
const (
	ptePresent  = 1 << 0
	pteWritable = 1 << 1
	pteLarge    = 1 << 7 // in a page directory: a 2 MiB page
)

// writePageTables maps the first 4 GiB to themselves and returns what goes
// into CR3. The 64-bit boot protocol asks for the kernel, the zero page and
// the command line; all of them are below 4 GiB.
func writePageTables(mem *memory.Guest) (uint64, error) {
	const (
		pml4        = pageTablesAddr
		pdpt        = pml4 + memory.PageSize
		directories = pdpt + memory.PageSize
		gigabytes   = 4
	)
	if err := mem.PutUint64(pml4, pdpt|ptePresent|pteWritable); err != nil {
		return 0, err
	}
	for i := range uint64(gigabytes) {
		if err := mem.PutUint64(pdpt+8*i, (directories+i*memory.PageSize)|ptePresent|pteWritable); err != nil {
			return 0, err
		}
	}
	pages, err := mem.Slice(directories, gigabytes*memory.PageSize)
	if err != nil {
		return 0, err
	}
	for i := range uint64(gigabytes * 512) {
		le.PutUint64(pages[8*i:], i<<21|ptePresent|pteWritable|pteLarge)
	}
	return pml4, nil
}
