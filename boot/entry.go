package boot

import "vmm/memory"

// Mode is the state of the processor at a kernel's entry.
type Mode uint8

// The modes.
const (
	// ProtectedMode has flat 32-bit segments and no paging.
	ProtectedMode Mode = iota
	// LongMode has 64-bit code and an identity map of the first 4 GiB.
	LongMode
)

// Table is where a descriptor table lies: its address, and its last byte's
// offset.
type Table struct {
	Base  uint64
	Limit uint16
}

// Entry is the state in which the boot processor begins, and where Load put
// things. All addresses are guest-physical.
type Entry struct {
	Protocol Protocol // the one that was used, never Auto
	Mode     Mode

	RIP uint64
	RSI uint64 // Linux: the zero page
	RBX uint64 // PVH: the start_info; Multiboot: the information structure
	RAX uint64 // Multiboot: a magic number
	RSP uint64
	CR3 uint64 // with LongMode
	GDT Table
	// CS and DS are the selectors of code and of data, the stack included.
	CS, DS uint16

	Kernel memory.Range // what the kernel occupies, with the room it needs to start
	// Offset is how much higher the kernel lies in physical memory than its
	// ELF file says, and Slide how much higher in virtual memory: zero, or what
	// KASLR has chosen. A kernel that unpacks itself chooses its own later.
	Offset, Slide uint64

	Initrd  memory.Range // Size 0: none
	Modules []Placed     // besides the initrd
	Cmdline string
	// Told is what the kernel is told, and where.
	Told []Place

	// Unpacker is where the code of a kernel that unpacks itself goes on behind
	// its payload; 0 for one that does not.
	Unpacker uint64
}

// files are the modules that a Multiboot or PVH kernel is given: the initrd, if
// there is one, is the first.
func (e Entry) files() []Placed {
	if e.Initrd.Size == 0 {
		return e.Modules
	}
	return append([]Placed{{Range: e.Initrd}}, e.Modules...)
}
