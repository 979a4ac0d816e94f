package boot

import (
	"debug/elf"

	"vmm/memory"
)

// loadELF loads the segments of an ELF kernel and prepares its entry.
func (img *Image) loadELF(mem *memory.Guest, p Params) (Entry, error) {
	exe := img.ELF
	e := Entry{Protocol: p.Protocol, Cmdline: p.Cmdline}
	if p.Protocol == PVH {
		if exe.PVH == nil {
			return Entry{}, img.errorf("an ELF kernel without a PVH entry; use --boot-protocol linux64, or a kernel with CONFIG_PVH")
		}
		e.RIP = uint64(*exe.PVH)
	} else {
		var ok bool
		if e.RIP, ok = exe.physicalEntry(); !ok || exe.Class != elf.ELFCLASS64 {
			return Entry{}, img.errorf("an ELF file without a 64-bit entry in one of its segments; use --boot-protocol pvh")
		}
		e.Mode = LongMode
	}

	for _, s := range exe.Segments {
		if s.loaded() {
			e.Kernel = union(e.Kernel, s.memory())
		}
	}
	if err := img.checkRoom(mem, e.Kernel); err != nil {
		return Entry{}, err
	}
	last := uint64(initrdMax64)
	if exe.Class == elf.ELFCLASS32 {
		last = initrdMax32
	}
	var err error
	if e.Initrd, err = p.Initrd.load(mem, e.Kernel.End(), last); err != nil {
		return Entry{}, err
	}
	for _, s := range exe.Segments {
		// What a segment has in memory beyond the file is zero already.
		if s.loaded() {
			if err := img.readInto(mem, s.PAddr, int64(s.Offset), s.FileSize); err != nil {
				return Entry{}, err
			}
		}
	}

	if p.Protocol == PVH {
		return e, e.finishPVH(mem, p.RSDP)
	}
	// The zero page of a kernel without a setup header: only what a kernel
	// reads before it trusts the rest.
	return e, e.finishLinux(mem, SetupHeader{
		BootFlag:        bootFlag,
		Magic:           headerMagic,
		Version:         version212,
		LoadFlags:       loadedHigh,
		KernelAlignment: 1 << 21,
		CmdlineSize:     defaultMaxCmdline,
	}, p.RSDP)
}

// union is the smallest range that holds both; an empty one holds nothing.
func union(a, b memory.Range) memory.Range {
	if a.Size == 0 {
		return b
	}
	start, end := min(a.Start, b.Start), max(a.End(), b.End())
	return memory.Range{Start: start, Size: end - start}
}
