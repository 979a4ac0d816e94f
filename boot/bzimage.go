package boot

import (
	"encoding/binary"

	"vmm/memory"
)

// entry64 is the offset of the 64-bit entry from the load address.
// Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".
const entry64 = 0x200

// loadBzImage loads the compressed kernel as it is; code inside the guest
// decompresses it.
func (img *Image) loadBzImage(mem *memory.Guest, p Params) (Entry, error) {
	h := img.Header
	if p.Protocol == Linux64 && !h.has64() {
		return Entry{}, img.errorf("a 32-bit kernel, or one older than Linux 3.8: it has no 64-bit entry; use --boot-protocol linux32")
	}
	off := h.kernelOffset()
	size := uint64(img.size - off)
	code := memory.Range{Start: h.loadAddress(), Size: size}
	run := h.runs()
	for _, r := range []memory.Range{code, run} {
		if err := img.checkRoom(mem, r); err != nil {
			return Entry{}, err
		}
	}
	kernel := union(code, run)
	// The initrd first: whether it fits is the commoner mistake.
	initrd, err := p.Initrd.load(mem, kernel.End(), h.initrdMax())
	if err != nil {
		return Entry{}, err
	}
	if err := img.readInto(mem, code.Start, off, size); err != nil {
		return Entry{}, err
	}
	header := *h
	header.Code32Start = uint32(code.Start)
	e := Entry{Protocol: p.Protocol, RIP: code.Start, Kernel: kernel, Initrd: initrd, Cmdline: p.Cmdline}
	if p.Protocol == Linux64 {
		e.Mode = LongMode
		e.RIP += entry64
	}
	return e, e.finishLinux(mem, header, p.RSDP)
}

// finishLinux writes what both Linux protocols need beside the kernel, and
// fills in the registers that lead to it.
func (e *Entry) finishLinux(mem *memory.Guest, h SetupHeader, rsdp uint64) error {
	var err error
	if e.GDT, err = writeGDT(mem, e.Mode); err != nil {
		return err
	}
	if e.Mode == LongMode {
		if e.CR3, err = writePageTables(mem); err != nil {
			return err
		}
	}
	if err := writeCmdline(mem, e.Cmdline); err != nil {
		return err
	}
	e.RSI = zeroPageAddr
	e.RSP = stackTop
	return writeZeroPage(mem, h, *e, rsdp)
}

// Offsets in the zero page. Documentation/arch/x86/zero-page.rst.
const (
	zpRSDP           = 0x070
	zpExtRamdisk     = 0x0c0
	zpExtRamdiskSize = 0x0c4
	zpE820Entries    = 0x1e8
	zpE820Table      = 0x2d0

	e820EntrySize = 20
)

// Values of the setup header that a loader fills in.
const (
	loaderUndefined = 0xff   // type_of_loader: none with a number of its own
	vidModeNormal   = 0xffff // vid_mode: "normal"
	heapEnd         = 0xfe00 // heap_end_ptr: the recommended end, less 0x200
)

// writeZeroPage writes struct boot_params: the setup header with the loader's
// fields filled in, and the memory map.
func writeZeroPage(mem *memory.Guest, h SetupHeader, e Entry, rsdp uint64) error {
	h.TypeOfLoader = loaderUndefined
	h.VidMode = vidModeNormal
	h.LoadFlags |= canUseHeap
	h.HeapEndPtr = heapEnd
	h.CmdLinePtr = cmdlineAddr
	h.RamdiskImage = uint32(e.Initrd.Start)
	h.RamdiskSize = uint32(e.Initrd.Size)

	page := make([]byte, memory.PageSize)
	if _, err := binary.Encode(page[headerOffset:], le, &h); err != nil {
		return err
	}
	le.PutUint64(page[zpRSDP:], rsdp)
	le.PutUint32(page[zpExtRamdisk:], uint32(e.Initrd.Start>>32))
	le.PutUint32(page[zpExtRamdiskSize:], uint32(e.Initrd.Size>>32))
	table := page[zpE820Table:]
	for i, m := range memoryMap(mem) {
		page[zpE820Entries]++
		le.PutUint64(table[i*e820EntrySize:], m.Start)
		le.PutUint64(table[i*e820EntrySize+8:], m.Size)
		le.PutUint32(table[i*e820EntrySize+16:], m.kind)
	}
	_, err := mem.WriteAt(page, zeroPageAddr)
	return err
}
