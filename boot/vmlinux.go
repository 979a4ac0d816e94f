package boot

import (
	"debug/elf"
	"encoding/binary"

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
		if s.Type == elf.PT_LOAD && s.MemSize > 0 {
			e.Kernel = union(e.Kernel, memory.Range{Start: s.PAddr, Size: s.MemSize})
		}
	}
	if e.Kernel.End() > lowRAM(mem).End() {
		return Entry{}, img.needMemory(e.Kernel.End())
	}
	var err error
	if e.Initrd, err = p.Initrd.load(mem, e.Kernel.End(), defaultInitrdMax); err != nil {
		return Entry{}, err
	}
	for _, s := range exe.Segments {
		// What a segment has in memory beyond the file is zero already.
		if s.Type == elf.PT_LOAD && s.FileSize > 0 {
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

// startInfo is struct hvm_start_info of include/xen/interface/hvm/start_info.h.
type startInfo struct {
	Magic         uint32
	Version       uint32
	Flags         uint32
	NrModules     uint32
	ModlistAddr   uint64
	CmdlineAddr   uint64
	RSDPAddr      uint64
	MemmapAddr    uint64
	MemmapEntries uint32
	_             uint32
}

// startModule is struct hvm_modlist_entry: a file in memory.
type startModule struct {
	Addr, Size  uint64
	CmdlineAddr uint64
	_           uint64
}

// startMemory is struct hvm_memmap_table_entry.
type startMemory struct {
	Addr, Size uint64
	Type       uint32
	_          uint32
}

const startMagic = 0x336e_c578 // "xEn3" with the high bit of the E set

// finishPVH writes the start_info and what it leads to.
func (e *Entry) finishPVH(mem *memory.Guest, rsdp uint64) error {
	info := startInfo{
		Magic:       startMagic,
		Version:     1,
		CmdlineAddr: cmdlineAddr,
		RSDPAddr:    rsdp,
	}
	next := uint64(startInfoAddr + binary.Size(info))
	if e.Initrd.Size > 0 {
		module := startModule{Addr: e.Initrd.Start, Size: e.Initrd.Size}
		info.NrModules, info.ModlistAddr = 1, next
		if err := writeStruct(mem, next, &module); err != nil {
			return err
		}
		next += uint64(binary.Size(module))
	}
	info.MemmapAddr = next
	for _, m := range memoryMap(mem) {
		entry := startMemory{Addr: m.Start, Size: m.Size, Type: m.kind}
		if err := writeStruct(mem, next, &entry); err != nil {
			return err
		}
		next += uint64(binary.Size(entry))
		info.MemmapEntries++
	}
	if err := writeStruct(mem, startInfoAddr, &info); err != nil {
		return err
	}
	if err := writeCmdline(mem, e.Cmdline); err != nil {
		return err
	}
	e.RBX = startInfoAddr
	e.RSP = stackTop
	var err error
	e.GDT, err = writeGDT(mem, e.Mode)
	return err
}

// writeStruct writes a structure, little-endian, at a guest-physical address.
func writeStruct(mem *memory.Guest, addr uint64, v any) error {
	dst, err := mem.Slice(addr, uint64(binary.Size(v)))
	if err != nil {
		return err
	}
	_, err = binary.Encode(dst, le, v)
	return err
}
