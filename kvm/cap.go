package kvm

// Cap is the number of a KVM capability: an optional part of the interface
// that a host may lack. KVM api.rst §4.4.
type Cap uint32

// The capabilities that vmm asks for, from <linux/kvm.h>.
const (
	CapIRQChip            Cap = 0
	CapHLT                Cap = 1
	CapUserMemory         Cap = 3
	CapSetTSSAddr         Cap = 4
	CapExtCPUID           Cap = 7
	CapRecommendedVCPUs   Cap = 9
	CapMemorySlots        Cap = 10
	CapMPState            Cap = 14
	CapSetGuestDebug      Cap = 23
	CapIRQRouting         Cap = 25
	CapIRQFD              Cap = 32
	CapPIT2               Cap = 33
	CapIOEventFD          Cap = 36
	CapSetIdentityMapAddr Cap = 37
	CapAdjustClock        Cap = 39
	CapVCPUEvents         Cap = 41
	CapDebugRegs          Cap = 50
	CapXSave              Cap = 55
	CapXCRs               Cap = 56
	CapTSCControl         Cap = 60
	CapGetTSCKHz          Cap = 61
	CapMaxVCPUs           Cap = 66
	CapTSCDeadlineTimer   Cap = 72
	CapSyncRegs           Cap = 74
	CapSignalMSI          Cap = 77
	CapMaxVCPUID          Cap = 128
	CapImmediateExit      Cap = 136
	CapSetGuestDebug2     Cap = 195
	CapXSave2             Cap = 208
)

// capNames are the names in <linux/kvm.h>, without KVM_CAP_.
var capNames = map[Cap]string{
	CapIRQChip:            "IRQCHIP",
	CapHLT:                "HLT",
	CapUserMemory:         "USER_MEMORY",
	CapSetTSSAddr:         "SET_TSS_ADDR",
	CapExtCPUID:           "EXT_CPUID",
	CapRecommendedVCPUs:   "NR_VCPUS",
	CapMemorySlots:        "NR_MEMSLOTS",
	CapMPState:            "MP_STATE",
	CapSetGuestDebug:      "SET_GUEST_DEBUG",
	CapIRQRouting:         "IRQ_ROUTING",
	CapIRQFD:              "IRQFD",
	CapPIT2:               "PIT2",
	CapIOEventFD:          "IOEVENTFD",
	CapSetIdentityMapAddr: "SET_IDENTITY_MAP_ADDR",
	CapAdjustClock:        "ADJUST_CLOCK",
	CapVCPUEvents:         "VCPU_EVENTS",
	CapDebugRegs:          "DEBUGREGS",
	CapXSave:              "XSAVE",
	CapXCRs:               "XCRS",
	CapTSCControl:         "TSC_CONTROL",
	CapGetTSCKHz:          "GET_TSC_KHZ",
	CapMaxVCPUs:           "MAX_VCPUS",
	CapTSCDeadlineTimer:   "TSC_DEADLINE_TIMER",
	CapSyncRegs:           "SYNC_REGS",
	CapSignalMSI:          "SIGNAL_MSI",
	CapMaxVCPUID:          "MAX_VCPU_ID",
	CapImmediateExit:      "IMMEDIATE_EXIT",
	CapSetGuestDebug2:     "SET_GUEST_DEBUG2",
	CapXSave2:             "XSAVE2",
}

// String is the capability's name in <linux/kvm.h>.
func (c Cap) String() string {
	if name, ok := capNames[c]; ok {
		return "KVM_CAP_" + name
	}
	return "KVM_CAP_" + itoa(uint64(c))
}
