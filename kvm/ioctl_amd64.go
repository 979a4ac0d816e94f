package kvm

// Request numbers of the ioctls that only x86 has.
const (
	// On a VM.
	reqSetTSSAddr         = 0x0000ae47
	reqSetIdentityMapAddr = 0x4008ae48
	reqGetIRQChip         = 0xc208ae62
	reqSetIRQChip         = 0x8208ae63
	reqCreatePIT2         = 0x4040ae77
	reqGetPIT2            = 0x8070ae9f
	reqSetPIT2            = 0x4070aea0

	// On a vCPU.
	reqGetRegs       = 0x8090ae81
	reqSetRegs       = 0x4090ae82
	reqGetSregs      = 0x8138ae83
	reqSetSregs      = 0x4138ae84
	reqTranslate     = 0xc018ae85
	reqGetMSRs       = 0xc008ae88
	reqSetMSRs       = 0x4008ae89
	reqGetFPU        = 0x81a0ae8c
	reqSetFPU        = 0x41a0ae8d
	reqGetLAPIC      = 0x8400ae8e
	reqSetLAPIC      = 0x4400ae8f
	reqSetCPUID2     = 0x4008ae90
	reqGetCPUID2     = 0xc008ae91
	reqNMI           = 0x0000ae9a
	reqGetVCPUEvents = 0x8040ae9f
	reqSetVCPUEvents = 0x4040aea0
	reqGetDebugRegs  = 0x8080aea1
	reqSetDebugRegs  = 0x4080aea2
	reqSetTSCKHz     = 0x0000aea2
	reqGetTSCKHz     = 0x0000aea3
	reqGetXSave      = 0x9000aea4
	reqSetXSave      = 0x5000aea5
	reqGetXCRs       = 0x8188aea6
	reqSetXCRs       = 0x4188aea7
	reqKVMClockCtrl  = 0x0000aead
	reqGetXSave2     = 0x9000aecf
)
