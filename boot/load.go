package boot

import (
	"io"
	"log/slog"
	"slices"

	"vmm/memory"
)

// Params are what a kernel is loaded with.
type Params struct {
	Protocol Protocol
	Initrd   *Initrd // nil for none
	// Modules are further files, for Multiboot and PVH.
	Modules []Module
	// KASLR says whether the kernel's addresses are chosen at random.
	KASLR KASLR
	// Cmdline is the command line as far as it is known by now: all the words
	// that bear on where the kernel goes.
	Cmdline string
	// Random is where random addresses come from. It is not read without KASLR.
	Random io.Reader
	// Unpack unpacks a bzImage; nil for [Image.Unpack].
	Unpack func(*Image) (*Image, error)
	// Log receives decisions; nil for nothing.
	Log *slog.Logger
}

// Loaded is a kernel in guest memory that has yet to be told of its machine.
type Loaded struct {
	mem    *memory.Guest
	img    *Image
	entry  Entry
	header SetupHeader    // what the zero page will hold of it
	taken  []memory.Range // by the kernel's parts
}

// Load writes kernel and initrd into guest memory, which must be all zeros:
// what need not be written is not. It takes most of the time that it takes to
// start a kernel, and needs only the memory: the rest of the machine can be made
// meanwhile.
func (img *Image) Load(mem *memory.Guest, p Params) (*Loaded, error) {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if p.Protocol, err = img.Choose(p.Protocol); err != nil {
		return nil, err
	}
	if img.isProgram() { // and so was not chosen
		p.Log.Warn("the kernel looks like a program for an operating system; it is entered as --boot-protocol says", "kernel", img.Name, "protocol", p.Protocol)
	}
	if len(p.Modules) > 0 && p.Protocol != Multiboot && p.Protocol != PVH {
		return nil, img.errorf("the %v protocol knows of no modules; use --initrd, or --boot-protocol multiboot or pvh", p.Protocol)
	}
	l := &Loaded{mem: mem, img: img, entry: Entry{Protocol: p.Protocol}}
	switch {
	case img.Format == BzImage && (p.Protocol == Direct || p.Protocol == PVH):
		err = l.loadPayload(p)
	case img.Format == BzImage && (p.Protocol == Linux64 || p.Protocol == Linux32):
		err = l.loadBzImage(p)
	case p.Protocol == Multiboot && img.Multiboot != nil:
		err = l.loadELF(img.Multiboot, p)
	case img.ELF != nil && (p.Protocol == Direct || p.Protocol == Linux64 || p.Protocol == PVH):
		err = l.loadELF(img.ELF, p)
	default:
		err = img.errorf("this %v image has no %v entry; 'vmm inspect kernel' shows those it has", img.Format, p.Protocol)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Enter writes what the kernel is told: command line, memory map, and the
// address of the ACPI root pointer, 0 for none. It answers with the state in
// which the boot processor begins.
func (l *Loaded) Enter(cmdline string, rsdp uint64) (Entry, error) {
	e := l.entry
	e.Cmdline = cmdline
	if e.Protocol == Multiboot {
		cmdline = l.img.multibootCmdline(cmdline)
	}
	if err := checkCmdline(cmdline, l.img.maxCmdline()); err != nil {
		return Entry{}, err
	}
	r := room{mem: l.mem, taken: slices.Clone(l.taken)}
	for _, f := range e.files() {
		r.taken = append(r.taken, f.Range)
	}
	if err := r.writeBIOSData(); err != nil {
		return Entry{}, err
	}
	err := l.tell(&e, &r, cmdline, rsdp)
	e.Told = r.told
	return e, err
}

// tell writes what the kernel is told, and points the registers to it.
func (l *Loaded) tell(e *Entry, r *room, cmdline string, rsdp uint64) error {
	words, err := r.place("command line", cmdlineAddr, uint64(len(cmdline))+1)
	if err != nil {
		return err
	}
	if _, err := l.mem.WriteAt(append([]byte(cmdline), 0), int64(words)); err != nil {
		return err
	}
	if err := writeGDT(r, e); err != nil {
		return err
	}
	stack, err := r.place("stack", stackAddr, memory.PageSize)
	if err != nil {
		return err
	}
	e.RSP = stack + memory.PageSize
	switch e.Protocol {
	case PVH:
		if e.RBX, err = r.place("start information (PVH)", startInfoAddr, startInfoEnd-startInfoAddr); err != nil {
			return err
		}
		return writeStartInfo(l.mem, *e, words, rsdp)
	case Multiboot:
		e.RAX = multibootEntry
		if e.RBX, err = r.place("start information (Multiboot)", startInfoAddr, startInfoEnd-startInfoAddr); err != nil {
			return err
		}
		return writeMultibootInfo(l.mem, *e, words)
	}
	if e.Mode == LongMode {
		if e.CR3, err = r.place("boot page tables", pageTablesAddr, pageTablesEnd-pageTablesAddr); err != nil {
			return err
		}
		if err := writePageTables(l.mem, e.CR3, e.Kernel); err != nil {
			return err
		}
	}
	if e.RSI, err = r.place("zero page (boot_params)", zeroPageAddr, memory.PageSize); err != nil {
		return err
	}
	return writeZeroPage(l.mem, l.header, *e, words, rsdp)
}

// isProgram guesses whether the image is a program for an operating system, and no
// kernel.
func (img *Image) isProgram() bool {
	return img.ELF != nil && img.Multiboot == nil && img.ELF.isProgram()
}

// IsLinux reports whether the image is known to be a Linux kernel.
func (img *Image) IsLinux() bool {
	return img.Header != nil || img.ELF != nil && img.ELF.isLinux()
}

// Choose is the protocol to enter the kernel by: the best that the image has for
// Auto, and p itself for any other.
func (img *Image) Choose(p Protocol) (Protocol, error) {
	switch {
	case p != Auto:
		return p, nil
	case img.ELF != nil && img.ELF.PVH != nil:
		return PVH, nil
	case img.Multiboot != nil:
		return Multiboot, nil
	case img.isProgram():
		return Auto, img.errorf("an ELF program for an operating system, not a Linux kernel; %s, or say how to enter it: --boot-protocol linux64", giveKernel)
	case img.Format == ELF:
		return Linux64, nil
	case !img.Header.has64():
		return Linux32, nil
	}
	switch ok, err := img.unpackable(); {
	case err != nil:
		return Auto, err
	case ok:
		return Direct, nil
	}
	return Linux64, nil
}
