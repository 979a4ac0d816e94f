package boot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"vmm/memory"
)

// multibootHeader is the header of a kernel for Multiboot loaders. Multiboot
// Specification 0.6.96, §3.1.
type multibootHeader struct {
	Magic, Flags, Checksum uint32
	// With multibootAddresses, where to load what.
	HeaderAddr  uint32
	LoadAddr    uint32 // of the start of what is loaded
	LoadEndAddr uint32 // 0: as much as the file has
	BSSEndAddr  uint32 // 0: nothing more
	EntryAddr   uint32
}

const (
	multibootMagic = 0x1bad_b002
	// multibootSearch is how far into the file the header may be, in bytes.
	multibootSearch = 8192

	multibootAddresses = 1 << 16 // the address fields hold
	// Of the bits that say what the kernel cannot do without, those for
	// page-aligned modules, memory information and a video mode. A machine without a
	// screen does not have the last, and kernels that ask for it do without.
	multibootKnown = 1<<0 | 1<<1 | 1<<2
	multibootMust  = 0xffff
)

// findMultiboot finds a Multiboot header in the start of a file, and says where
// it is.
func findMultiboot(head []byte) (h multibootHeader, at int, ok bool) {
	size := binary.Size(h)
	for at = 0; at+12 <= len(head); at += 4 {
		if le.Uint32(head[at:]) != multibootMagic {
			continue
		}
		raw := make([]byte, size)
		copy(raw, head[at:])
		if _, err := binary.Decode(raw, le, &h); err == nil && h.Magic+h.Flags+h.Checksum == 0 {
			return h, at, true
		}
	}
	return h, 0, false
}

// executable is what a header with address fields says is to be loaded, as an
// ELF file would say it. The header is at an offset of a file of size bytes.
func (h multibootHeader) executable(at int, size int64) (*Executable, error) {
	damaged := errors.New("the addresses in its Multiboot header make no sense; the file is damaged")
	offset := int64(at) - (int64(h.HeaderAddr) - int64(h.LoadAddr))
	if h.LoadAddr > h.HeaderAddr || offset < 0 || offset > size {
		return nil, damaged
	}
	fileSize := size - offset
	if h.LoadEndAddr != 0 {
		fileSize = int64(h.LoadEndAddr) - int64(h.LoadAddr)
	}
	memSize := fileSize
	if h.BSSEndAddr != 0 {
		memSize = int64(h.BSSEndAddr) - int64(h.LoadAddr)
	}
	if fileSize <= 0 || fileSize > size-offset || memSize < fileSize {
		return nil, damaged
	}
	exe := &Executable{Class: elf.ELFCLASS32, Machine: elf.EM_386, Type: elf.ET_EXEC, Entry: uint64(h.EntryAddr), end: size,
		Segments: []Segment{{
			Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W | elf.PF_X, Offset: uint64(offset),
			VAddr: uint64(h.LoadAddr), PAddr: uint64(h.LoadAddr), FileSize: uint64(fileSize), MemSize: uint64(memSize),
		}}}
	if err := exe.checkSegments(); err != nil {
		return nil, err
	}
	if _, ok := exe.physicalEntry(); !ok {
		return nil, damaged
	}
	return exe, nil
}

// parseMultiboot looks for a Multiboot header, and keeps what is to be loaded
// where there is one.
func (img *Image) parseMultiboot(head []byte) error {
	h, at, ok := findMultiboot(head)
	addresses := h.Flags&multibootAddresses != 0
	isELF32 := img.ELF != nil && img.ELF.Class == elf.ELFCLASS32
	isELF64 := img.ELF != nil && !isELF32
	switch unknown := h.Flags & multibootMust &^ multibootKnown; {
	case !ok:
		return nil
	case isELF64 && unknown != 0:
		return nil // it may have another way in
	case unknown != 0:
		return fmt.Errorf("its Multiboot header asks for what vmm does not have: flags %#x", unknown)
	case isELF32, isELF64 && !addresses:
		// The specification speaks of 32 bits; GRUB takes a 64-bit file, too, and
		// enters it as it enters any.
		img.Multiboot = img.ELF
		return img.ELF.checkSegments()
	case !addresses:
		return errors.New("its Multiboot header does not say where to load it, and it is no ELF file")
	}
	var err error
	img.Multiboot, err = h.executable(at, img.size)
	return err
}

// multibootInfo is what the kernel is told. Multiboot Specification 0.6.96,
// §3.3. What its flags do not name is zero.
type multibootInfo struct {
	Flags              uint32
	MemLower, MemUpper uint32 // KiB from 0, and from 1 MiB
	BootDevice         uint32
	Cmdline            uint32
	ModsCount          uint32
	ModsAddr           uint32
	_                  [4]uint32 // symbols
	MmapLength         uint32    // bytes
	MmapAddr           uint32
	_                  [2]uint32 // drives
	_                  uint32    // ROM configuration
	BootLoaderName     uint32
	_                  [12]uint32 // APM, VBE and frame buffer
}

// Flags of multibootInfo.
const (
	mbiMemory     = 1 << 0
	mbiCmdline    = 1 << 2
	mbiModules    = 1 << 3
	mbiMmap       = 1 << 6
	mbiLoaderName = 1 << 9
)

// multibootModule is a file in memory.
type multibootModule struct {
	Start, End uint32
	Cmdline    uint32
	_          uint32
}

// multibootMmap is a range of the memory map. Its types are those of ACPI.
type multibootMmap struct {
	Size   uint32 // of the rest, in bytes
	Addr   uint64
	Length uint64
	Type   uint32
}

// errTooMuchToTell is for words that have more than the room for them.
var errTooMuchToTell = fmt.Errorf("the modules, or their words, are more than the %d KiB that there are to tell of them; give fewer", (startInfoEnd-startInfoAddr)>>10)

// multibootEntry is what the kernel finds in EAX.
const multibootEntry = 0x2bad_b002

// multibootCmdline is a command line as Multiboot loaders pass it: with the name
// of the kernel's file first.
func (img *Image) multibootCmdline(words string) string {
	name := filepath.Base(img.Name)
	if words == "" {
		return name
	}
	return name + " " + words
}

// writeMultibootInfo writes the structure, to where RBX points, and what it leads
// to.
func writeMultibootInfo(mem *memory.Guest, e Entry, cmdline uint64) error {
	info := multibootInfo{
		Flags:    mbiMemory | mbiCmdline | mbiMmap | mbiLoaderName,
		MemLower: lowMemoryEnd >> 10,
		MemUpper: uint32(lowRAM(mem).Size >> 10),
		Cmdline:  uint32(cmdline),
	}
	next := e.RBX + uint64(binary.Size(info))
	write := func(v any) (uint32, error) {
		at := next
		next += uint64(binary.Size(v))
		return uint32(at), writeStruct(mem, at, v)
	}
	var err error
	if info.BootLoaderName, err = write([]byte("vmm\x00")); err != nil {
		return err
	}
	var modules []multibootModule
	for _, f := range e.files() {
		m := multibootModule{Start: uint32(f.Start), End: uint32(f.End())}
		if m.Cmdline, err = write(append([]byte(f.Args), 0)); err != nil {
			return err
		}
		modules = append(modules, m)
	}
	if len(modules) > 0 {
		next = (next + 3) &^ 3
		info.Flags |= mbiModules
		info.ModsCount = uint32(len(modules))
		if info.ModsAddr, err = write(modules); err != nil {
			return err
		}
	}
	info.MmapAddr = uint32(next)
	for _, m := range memoryMap(mem) {
		if _, err := write(&multibootMmap{Size: 20, Addr: m.Start, Length: m.Size, Type: m.kind}); err != nil {
			return err
		}
	}
	info.MmapLength = uint32(next) - info.MmapAddr
	if next > e.RBX+startInfoEnd-startInfoAddr {
		return errTooMuchToTell
	}
	return writeStruct(mem, e.RBX, &info)
}
