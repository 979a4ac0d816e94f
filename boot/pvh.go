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
	if files := e.files(); len(files) > 0 {
		modules := make([]startModule, len(files))
		info.NrModules, info.ModlistAddr = uint32(len(files)), next
		next += uint64(binary.Size(modules))
		for i, f := range files {
			modules[i] = startModule{Addr: f.Start, Size: f.Size}
			if f.Args == "" {
				continue
			}
			modules[i].CmdlineAddr = next
			if err := writeStruct(mem, next, append([]byte(f.Args), 0)); err != nil {
				return err
			}
			next += uint64(len(f.Args)) + 1
		}
		if err := writeStruct(mem, info.ModlistAddr, modules); err != nil {
			return err
		}
		next = (next + 7) &^ 7
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
	if next > e.RBX+startInfoEnd-startInfoAddr {
		return errTooMuchToTell
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
