package boot

import (
	"debug/elf"

	"vmm/memory"
)

// loadPayload unpacks the kernel in a bzImage and loads it.
func (l *Loaded) loadPayload(p Params) error {
	// The header says how much room unpacking in the guest would take. It is
	// an upper bound here, and known before anything is unpacked.
	if err := l.img.checkRoom(l.mem, l.img.Header.runs()); err != nil {
		return err
	}
	unpack := p.Unpack
	if unpack == nil {
		unpack = (*Image).Unpack
	}
	kernel, err := unpack(l.img)
	if err != nil {
		return err
	}
	defer kernel.Close()
	packed := l.img
	l.img = kernel
	if err := l.loadELF(kernel.ELF, p); err != nil {
		return err
	}
	if kernel.Verify == nil {
		return nil
	}
	if err := kernel.Verify(); err != nil {
		p.Log.Debug("the unpacked kernel changed while it was read: once more", "error", err)
		image, err := l.mem.Slice(l.entry.Kernel.Start, l.entry.Kernel.Size)
		if err != nil {
			return err
		}
		clear(image)
		*l = Loaded{mem: l.mem, img: packed, entry: Entry{Protocol: p.Protocol}}
		p.Unpack = nil
		return l.loadPayload(p)
	}
	return nil
}

// loadELF loads the segments of an executable of the image.
func (l *Loaded) loadELF(exe *Executable, p Params) error {
	entry, ok := exe.physicalEntry()
	switch p.Protocol {
	case PVH:
		if exe.PVH == nil {
			return l.img.errorf("an ELF kernel without a PVH entry; use --boot-protocol linux64, or a kernel with CONFIG_PVH")
		}
		entry = uint64(*exe.PVH)
	case Multiboot:
		if !ok {
			return l.img.errorf("its entry %#x is in none of its segments: the file is damaged", exe.Entry)
		}
	default:
		if !ok || exe.Class != elf.ELFCLASS64 {
			return l.img.errorf("an ELF file without a 64-bit entry in one of its segments; use --boot-protocol pvh")
		}
		l.entry.Mode = LongMode
		l.header = l.img.zeroPageHeader()
	}

	link := exe.memory()
	if err := l.img.checkRoom(l.mem, link); err != nil {
		return err
	}
	f := filler{mem: l.mem}
	if err := l.addFiles(&f, p, link.End(), l.initrdMax(exe)); err != nil {
		return err
	}
	l.entry.Kernel = link
	random, err := l.randomize(p)
	if err != nil {
		return err
	}
	l.entry.RIP = entry + l.entry.Offset

	for _, s := range exe.Segments {
		// What a segment has in memory beyond the file is zero already.
		if s.loaded() {
			l.taken = append(l.taken, memory.Range{Start: s.PAddr + l.entry.Offset, Size: s.MemSize})
			if err := f.add(s.PAddr+l.entry.Offset, l.img.r, l.img.Sealed, int64(s.Offset), s.FileSize, l.img.named); err != nil {
				return err
			}
		}
	}
	if err := f.run(); err != nil {
		return err
	}
	if random {
		return l.relocate()
	}
	return nil
}

// addFiles is to put initrd and modules between the kernel's end, floor, and the
// highest address for them, the first the highest.
func (l *Loaded) addFiles(f *filler, p Params, floor, last uint64) error {
	initrd, err := p.Initrd.place(l.mem, floor, last)
	if err != nil {
		return err
	}
	l.entry.Initrd = initrd
	if err := f.addInitrd(p.Initrd, initrd); err != nil {
		return err
	}
	if initrd.Size > 0 {
		last = initrd.Start - 1
	}
	for i := range p.Modules {
		m := &p.Modules[i]
		m.module = true
		at, err := m.place(l.mem, floor, last)
		if err != nil {
			return err
		}
		if err := f.addInitrd(&m.Initrd, at); err != nil {
			return err
		}
		l.entry.Modules = append(l.entry.Modules, Placed{at, m.Args})
		last = at.Start - 1
	}
	return nil
}

// zeroPageHeader is the setup header for the zero page. A kernel that never was
// in a bzImage has none of its own, and gets what a kernel reads before it
// trusts the rest.
func (img *Image) zeroPageHeader() SetupHeader {
	if img.Header != nil {
		return *img.Header
	}
	return SetupHeader{
		BootFlag:        bootFlag,
		Magic:           headerMagic,
		Version:         version212,
		LoadFlags:       loadedHigh,
		KernelAlignment: minKernelAlign,
		XLoadFlags:      xlfKernel64 | xlfAbove4G,
		CmdlineSize:     defaultMaxCmdline,
	}
}

// initrdMax is the highest address that the initrd of an executable may reach.
func (l *Loaded) initrdMax(exe *Executable) uint64 {
	switch {
	case l.entry.Protocol == Multiboot:
		return memory.HoleStart - 1 // the specification knows no limit
	case l.img.Header != nil:
		return l.img.Header.initrdMax()
	case exe.Class == elf.ELFCLASS32:
		return initrdMax32
	}
	return initrdMax64
}

// memory is the guest-physical memory that the segments say they occupy.
func (exe *Executable) memory() memory.Range {
	var all memory.Range
	for _, s := range exe.Segments {
		if s.loaded() {
			all = union(all, s.memory())
		}
	}
	return all
}

// union is the smallest range that holds both; an empty one holds nothing.
func union(a, b memory.Range) memory.Range {
	if a.Size == 0 {
		return b
	}
	start, end := min(a.Start, b.Start), max(a.End(), b.End())
	return memory.Range{Start: start, Size: end - start}
}
