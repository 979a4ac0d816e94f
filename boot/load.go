package boot

import (
	"io"
	"log/slog"

	"vmm/memory"
)

// Params are what a kernel is loaded with.
type Params struct {
	Protocol Protocol
	Initrd   *Initrd // nil for none
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
	header SetupHeader // what the zero page will hold of it
}

// Load writes kernel and initrd into guest memory, which must be all zeros:
// what need not be written is not. It takes most of the time that it takes to
// start a kernel, and needs only the memory: the rest of the machine can be made
// meanwhile.
func (img *Image) Load(mem *memory.Guest, p Params) (*Loaded, error) {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.Protocol == Auto {
		best, err := img.best()
		if err != nil {
			return nil, err
		}
		p.Protocol = best
	}
	l := &Loaded{mem: mem, img: img, entry: Entry{Protocol: p.Protocol}}
	var err error
	switch {
	case img.Format == BzImage && (p.Protocol == Direct || p.Protocol == PVH):
		err = l.loadPayload(p)
	case img.Format == BzImage:
		err = l.loadBzImage(p)
	case p.Protocol == Linux32:
		err = img.errorf("an ELF image has no linux32 entry; use --boot-protocol linux64 or pvh, or a bzImage")
	default:
		err = l.loadELF(p)
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
	if err := checkCmdline(cmdline, l.img.maxCmdline()); err != nil {
		return Entry{}, err
	}
	e.Cmdline = cmdline
	if err := writeCmdline(l.mem, cmdline); err != nil {
		return Entry{}, err
	}
	var err error
	if e.GDT, err = writeGDT(l.mem, e.Mode); err != nil {
		return Entry{}, err
	}
	e.RSP = stackTop
	if e.Protocol == PVH {
		e.RBX = startInfoAddr
		return e, writeStartInfo(l.mem, e, rsdp)
	}
	if e.Mode == LongMode {
		if e.CR3, err = writePageTables(l.mem, e.Kernel); err != nil {
			return Entry{}, err
		}
	}
	e.RSI = zeroPageAddr
	return e, writeZeroPage(l.mem, l.header, e, rsdp)
}

// best is the protocol that Auto stands for.
func (img *Image) best() (Protocol, error) {
	switch {
	case img.Format == ELF && img.ELF.PVH != nil:
		return PVH, nil
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
