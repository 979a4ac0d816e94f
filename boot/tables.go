package boot

import (
	"cmp"
	"encoding/binary"
	"errors"

	"vmm/memory"
)

var le = binary.LittleEndian

// Descriptors of the boot GDT: flat, present, privilege level 0. Intel SDM
// vol. 3 §3.4.5.
const (
	descCode64 = 0x00af_9b00_0000_ffff
	descCode32 = 0x00cf_9b00_0000_ffff
	descData   = 0x00cf_9300_0000_ffff
	descTSS    = 0x0000_8b00_0000_0067
)

// Selectors at a kernel's entry. Documentation/arch/x86/boot.rst prescribes those
// of Linux: __BOOT_CS and __BOOT_DS. The other protocols leave them open, and
// kernels that keep them in SS or CS after they have loaded a table of their own
// expect those that GRUB, QEMU, Xen and Firecracker use: the first two.
const (
	linuxCS, linuxDS = 0x10, 0x18
	firstCS, firstDS = 0x08, 0x10
)

// writeGDT writes the descriptor table for the mode and protocol of an entry, and
// says in it where the table lies and which selectors to use.
func writeGDT(r *room, e *Entry) error {
	code := uint64(descCode32)
	if e.Mode == LongMode {
		code = descCode64
	}
	descriptors := []uint64{0, code, descData, descTSS, 0}
	e.CS, e.DS = firstCS, firstDS
	if e.Protocol != PVH && e.Protocol != Multiboot {
		descriptors = []uint64{0, 0, code, descData, descTSS, 0}
		e.CS, e.DS = linuxCS, linuxDS
	}
	at, err := r.place("boot GDT", gdtAddr, memory.PageSize)
	if err != nil {
		return err
	}
	for i, d := range descriptors {
		if err := r.mem.PutUint64(at+uint64(i)*8, d); err != nil {
			return err
		}
	}
	e.GDT = Table{Base: at, Limit: uint16(len(descriptors)*8 - 1)}
	return nil
}

// Bits of page-table entries. Intel SDM vol. 3 §4.5.4.
const (
	ptePresent  = 1 << 0
	pteWritable = 1 << 1
	pteLarge    = 1 << 7 // in a page directory: a 2 MiB page
)

// writePageTables maps the first 4 GiB to themselves, and the kernel where it
// lies above, with tables from the address root on. The 64-bit boot protocol asks
// for the kernel, the zero page and the command line.
func writePageTables(mem *memory.Guest, root uint64, kernel memory.Range) error {
	t := pageTables{mem: mem, next: root, end: root + pageTablesEnd - pageTablesAddr}
	t.alloc() // the root
	const gib = 1 << 30
	for at := uint64(0); at < 4*gib; at += gib {
		t.mapGigabyte(root, at)
	}
	for at := max(kernel.Start&^(gib-1), 4*gib); at < kernel.End(); at += gib {
		t.mapGigabyte(root, at)
	}
	return t.err
}

// pageTables are page tables in the making. The memory for them is zero to
// begin with.
type pageTables struct {
	mem  *memory.Guest
	next uint64 // the next page to use for a table
	end  uint64 // of the room for them
	err  error  // the first one
}

// alloc is a table to fill.
func (t *pageTables) alloc() uint64 {
	table := t.next
	t.next += memory.PageSize
	if t.next > t.end && t.err == nil {
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
