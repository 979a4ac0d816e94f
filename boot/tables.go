package boot

import (
	"cmp"
	"encoding/binary"
	"errors"

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

// writePageTables maps the first 4 GiB to themselves, and the kernel where it
// lies above, and returns what goes into CR3. The 64-bit boot protocol asks for
// the kernel, the zero page and the command line.
func writePageTables(mem *memory.Guest, kernel memory.Range) (uint64, error) {
	t := pageTables{mem: mem, next: pageTablesAddr}
	root := t.alloc()
	const gib = 1 << 30
	for at := uint64(0); at < 4*gib; at += gib {
		t.mapGigabyte(root, at)
	}
	for at := max(kernel.Start&^(gib-1), 4*gib); at < kernel.End(); at += gib {
		t.mapGigabyte(root, at)
	}
	return root, t.err
}

// pageTables are page tables in the making. The memory for them is zero to
// begin with.
type pageTables struct {
	mem  *memory.Guest
	next uint64 // the next page to use for a table
	err  error  // the first one
}

// alloc is a table to fill.
func (t *pageTables) alloc() uint64 {
	table := t.next
	t.next += memory.PageSize
	if t.next > pageTablesEnd && t.err == nil {
		t.err = errors.New("the kernel is too large for the page tables that it starts with")
	}
	return table
}

// below is the table that an entry of another one leads to, a new one where
// there is none yet.
func (t *pageTables) below(table, index uint64) uint64 {
	at := table + 8*index
	entry, err := t.mem.Uint64(at)
	if err != nil || t.err != nil {
		t.err = cmp.Or(t.err, err)
		return table
	}
	if entry == 0 {
		entry = t.alloc() | ptePresent | pteWritable
		t.err = cmp.Or(t.err, t.mem.PutUint64(at, entry))
	}
	return entry &^ (memory.PageSize - 1)
}

// mapGigabyte maps the gigabyte at addr to itself, in pages of 2 MiB: not every
// processor has larger ones.
func (t *pageTables) mapGigabyte(root, addr uint64) {
	pdpt := t.below(root, addr>>39&511)
	directory := t.below(pdpt, addr>>30&511)
	pages, err := t.mem.Slice(directory, memory.PageSize)
	if err != nil || t.err != nil {
		t.err = cmp.Or(t.err, err)
		return
	}
	for i := range uint64(512) {
		le.PutUint64(pages[8*i:], addr+i<<21|ptePresent|pteWritable|pteLarge)
	}
}
