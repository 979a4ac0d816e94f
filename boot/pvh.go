package boot

import (
	"encoding/binary"

	"vmm/memory"
)

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

// writeStartInfo writes the start_info, to where RBX points, and what it leads to.
func writeStartInfo(mem *memory.Guest, e Entry, cmdline, rsdp uint64) error {
	info := startInfo{
		Magic:       startMagic,
		Version:     1,
		CmdlineAddr: cmdline,
		RSDPAddr:    rsdp,
	}
	next := e.RBX + uint64(binary.Size(info))
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
	return writeStruct(mem, e.RBX, &info)
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
