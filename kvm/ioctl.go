package kvm

// Request numbers of the ioctls, from <linux/kvm.h>: direction, size of the
// argument, the letter 0xAE, and the number. A test compares each with the C
// header's.
const (
	// On the system.
	reqGetAPIVersion     = 0x0000ae00
	reqCreateVM          = 0x0000ae01
	reqCheckExtension    = 0x0000ae03
	reqGetVCPUMmapSize   = 0x0000ae04
	reqGetMSRIndexList   = 0xc004ae02
	reqGetSupportedCPUID = 0xc008ae05

	// On a VM.
	reqCreateVCPU      = 0x0000ae41
	reqGetDirtyLog     = 0x4010ae42
	reqSetMemoryRegion = 0x4020ae46
	reqCreateIRQChip   = 0x0000ae60
	reqIRQLine         = 0x4008ae61
	reqSetGSIRouting   = 0x4008ae6a
	reqIRQFD           = 0x4020ae76
	reqIOEventFD       = 0x4040ae79
	reqSetClock        = 0x4030ae7b
	reqGetClock        = 0x8030ae7c
	reqEnableCap       = 0x4068aea3
	reqSignalMSI       = 0x4020aea5

	// On a vCPU.
	reqRun           = 0x0000ae80
	reqGetMPState    = 0x8004ae98
	reqSetMPState    = 0x4004ae99
	reqSetGuestDebug = 0x4048ae9b
)
