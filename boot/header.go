package boot

import (
	"encoding/binary"
	"errors"
	"fmt"

	"vmm/memory"
)

// headerOffset is where the setup header lies, both in a bzImage and in the
// zero page. Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
const headerOffset = 0x1f1

// SetupHeader is the header of a bzImage, in the file's order and sizes, named
// as Documentation/arch/x86/boot.rst names its fields. Fields that the image's
// protocol version does not have are zero.
type SetupHeader struct {
	SetupSects          uint8  `json:"setup_sects"`
	RootFlags           uint16 `json:"root_flags"`
	SysSize             uint32 `json:"syssize"` // of the protected-mode code, in 16 bytes
	RAMSize             uint16 `json:"ram_size"`
	VidMode             uint16 `json:"vid_mode"`
	RootDev             uint16 `json:"root_dev"`
	BootFlag            uint16 `json:"boot_flag"` // 0xaa55
	Jump                uint16 `json:"jump"`      // its second byte tells the header's end
	Magic               uint32 `json:"header"`    // "HdrS"
	Version             uint16 `json:"version"`   // of the protocol, major.minor
	RealmodeSwitch      uint32 `json:"realmode_swtch"`
	StartSysSeg         uint16 `json:"start_sys_seg"`
	KernelVersion       uint16 `json:"kernel_version"` // offset of a string, less 0x200
	TypeOfLoader        uint8  `json:"type_of_loader"`
	LoadFlags           uint8  `json:"loadflags"`
	SetupMoveSize       uint16 `json:"setup_move_size"`
	Code32Start         uint32 `json:"code32_start"`
	RamdiskImage        uint32 `json:"ramdisk_image"`
	RamdiskSize         uint32 `json:"ramdisk_size"`
	BootsectKludge      uint32 `json:"bootsect_kludge"`
	HeapEndPtr          uint16 `json:"heap_end_ptr"`
	ExtLoaderVer        uint8  `json:"ext_loader_ver"`
	ExtLoaderType       uint8  `json:"ext_loader_type"`
	CmdLinePtr          uint32 `json:"cmd_line_ptr"`
	InitrdAddrMax       uint32 `json:"initrd_addr_max"`
	KernelAlignment     uint32 `json:"kernel_alignment"`
	RelocatableKernel   uint8  `json:"relocatable_kernel"`
	MinAlignment        uint8  `json:"min_alignment"` // a power of two
	XLoadFlags          uint16 `json:"xloadflags"`
	CmdlineSize         uint32 `json:"cmdline_size"`
	HardwareSubarch     uint32 `json:"hardware_subarch"`
	HardwareSubarchData uint64 `json:"hardware_subarch_data"`
	PayloadOffset       uint32 `json:"payload_offset"` // from the protected-mode code
	PayloadLength       uint32 `json:"payload_length"`
	SetupData           uint64 `json:"setup_data"`
	PrefAddress         uint64 `json:"pref_address"`
	InitSize            uint32 `json:"init_size"` // memory needed at the load address
	HandoverOffset      uint32 `json:"handover_offset"`
	KernelInfoOffset    uint32 `json:"kernel_info_offset"`
}

const (
	bootFlag    = 0xaa55
	headerMagic = 0x53726448 // "HdrS"

	loadedHigh = 1 << 0 // loadflags: the code goes to 1 MiB, as in every bzImage
	kaslrFlag  = 1 << 1 // loadflags: addresses have been chosen at random
	canUseHeap = 1 << 7 // loadflags: heap_end_ptr is valid

	xlfKernel64 = 1 << 0 // xloadflags: there is a 64-bit entry
	xlfAbove4G  = 1 << 1 // xloadflags: the kernel may lie above 4 GiB
)

// Protocol versions in which fields came that the loader uses.
const (
	version202 = 0x0202 // cmd_line_ptr
	version203 = 0x0203 // initrd_addr_max
	version204 = 0x0204 // syssize has 32 bits
	version205 = 0x0205 // relocatable_kernel
	version206 = 0x0206 // cmdline_size
	version208 = 0x0208 // payload_offset
	version210 = 0x020a // pref_address, init_size
	version212 = 0x020c // xloadflags
)

// headerSize is the size of SetupHeader in the file, in bytes.
const headerSize = 0x26c - headerOffset

// isBzImage reports whether the start of a file is that of a Linux kernel with
// a setup header.
func isBzImage(head []byte) bool {
	return len(head) >= 0x208 && le.Uint16(head[0x1fe:]) == bootFlag && le.Uint32(head[0x202:]) == headerMagic
}

// parseSetupHeader reads the header from the start of a file of size bytes.
func parseSetupHeader(head []byte, size int64) (*SetupHeader, error) {
	// The header ends where the jump instruction before it leads: 0x202 plus
	// the jump's second byte. What lies beyond is code, not fields.
	end := min(0x202+int(head[0x201]), headerOffset+headerSize, len(head))
	raw := make([]byte, headerSize)
	copy(raw, head[headerOffset:end])
	h := &SetupHeader{}
	if _, err := binary.Decode(raw, le, h); err != nil {
		return nil, err
	}
	if h.Version < version204 {
		h.SysSize &= 0xffff
	}
	code := int64(h.SysSize) * 16
	switch {
	case h.Version < version202:
		return nil, fmt.Errorf("boot protocol %s is older than 2.02 (Linux 2.4); use a newer kernel", h.version())
	case size <= h.kernelOffset():
		return nil, fmt.Errorf("truncated: the setup code alone is %d bytes and the file has %d; get it anew", h.kernelOffset(), size)
	case h.LoadFlags&loadedHigh == 0:
		return nil, errors.New("a zImage, not a bzImage; build the kernel with 'make bzImage'")
	case size <= h.kernelOffset()+code-16: // syssize is rounded up
		return nil, fmt.Errorf("truncated: its header says %d bytes and the file has %d; get it anew", h.kernelOffset()+code, size)
	}
	return h, nil
}

// version is the protocol version as people write it, such as 2.15.
func (h *SetupHeader) version() string {
	return fmt.Sprintf("%d.%02d", h.Version>>8, h.Version&0xff)
}

// has64 reports whether the kernel has a 64-bit entry.
func (h *SetupHeader) has64() bool {
	return h.Version >= version212 && h.XLoadFlags&xlfKernel64 != 0
}

// kernelOffset is where in the file the protected-mode code begins, after the
// boot sector and the setup sectors.
func (h *SetupHeader) kernelOffset() int64 {
	sects := int64(h.SetupSects)
	if sects == 0 {
		sects = 4 // "For backwards compatibility"
	}
	return (sects + 1) * 512
}

// runs is the memory that the kernel needs to start, at the address where it
// unpacks itself to. The size is 0 where the header does not say.
func (h *SetupHeader) runs() memory.Range {
	if h.Version < version210 {
		return memory.Range{Start: highMemory}
	}
	return memory.Range{Start: max(h.PrefAddress, highMemory), Size: uint64(h.InitSize)}
}

// loadAddress is where the protected-mode code goes: to where it will run if
// it can be moved. There is nothing to gain from another place: from below its
// preferred address a kernel moves itself there before anything else.
func (h *SetupHeader) loadAddress() uint64 {
	if h.Version >= version205 && h.RelocatableKernel != 0 {
		return h.runs().Start
	}
	return highMemory
}

// initrdMax is the highest address that an initrd may reach.
func (h *SetupHeader) initrdMax() uint64 {
	if h.Version >= version203 && h.InitrdAddrMax != 0 {
		return uint64(h.InitrdAddrMax)
	}
	return initrdMax32 // "assume 0x37FFFFFF"
}

// maxCmdline is the longest command line, without the final NUL.
func (h *SetupHeader) maxCmdline() uint32 {
	if h.Version >= version206 && h.CmdlineSize != 0 {
		return h.CmdlineSize
	}
	return 255
}
