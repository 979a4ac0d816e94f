package kvm

// CPUIDEntry is one leaf of CPUID: struct kvm_cpuid_entry2. KVM api.rst §4.20.
type CPUIDEntry struct {
	Function uint32 // EAX on input
	Index    uint32 // ECX on input, when Flags has CPUIDSignificantIndex
	Flags    uint32
	EAX      uint32
	EBX      uint32
	ECX      uint32
	EDX      uint32
	_        [3]uint32
}

// CPUIDSignificantIndex marks a leaf whose answer depends on ECX.
const CPUIDSignificantIndex = 1 << 0

// maxCPUID is KVM_MAX_CPUID_ENTRIES, the most that a vCPU can be given.
const maxCPUID = 256

// cpuid2 is struct kvm_cpuid2 with room for every entry.
type cpuid2 struct {
	N       uint32
	_       uint32
	Entries [maxCPUID]CPUIDEntry
}

// SupportedCPUID is what CPUID may say in a guest on this host: what both the
// processor and KVM support. KVM api.rst §4.46.
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	arg := &cpuid2{N: maxCPUID}
	if _, err := ioctlPtr(s.fd, "KVM_GET_SUPPORTED_CPUID", reqGetSupportedCPUID, arg); err != nil {
		return nil, err
	}
	return arg.Entries[:min(arg.N, maxCPUID)], nil
}

// msrList is struct kvm_msr_list with room for far more than any KVM has.
type msrList struct {
	N       uint32
	Indices [4096]uint32
}

// MSRIndices are the model-specific registers that make up a vCPU's state.
// KVM api.rst §4.3.
func (s *System) MSRIndices() ([]uint32, error) {
	arg := &msrList{N: uint32(len(msrList{}.Indices))}
	if _, err := ioctlPtr(s.fd, "KVM_GET_MSR_INDEX_LIST", reqGetMSRIndexList, arg); err != nil {
		return nil, err
	}
	return arg.Indices[:min(int(arg.N), len(arg.Indices))], nil
}

// SetTSSAddr gives KVM three pages of guest-physical address space, which on
// Intel hosts it needs to run real-mode code. They must not be RAM or a
// device. Comes before the first vCPU. KVM api.rst §4.36.
func (v *VM) SetTSSAddr(addr uint32) error {
	_, err := ioctlInt(v.fd, "KVM_SET_TSS_ADDR", reqSetTSSAddr, uintptr(addr))
	return err
}

// SetIdentityMapAddr gives KVM one page of guest-physical address space for
// the same purpose. Comes before the first vCPU. KVM api.rst §4.40.
func (v *VM) SetIdentityMapAddr(addr uint64) error {
	_, err := ioctlPtr(v.fd, "KVM_SET_IDENTITY_MAP_ADDR", reqSetIdentityMapAddr, &addr)
	return err
}

// pitConfig is struct kvm_pit_config.
type pitConfig struct {
	Flags uint32
	_     [15]uint32
}

// CreatePIT puts an 8254 timer into the VM, in the kernel, and with it port
// 0x61, through which a PC's software waits for the timer's channel 2. Comes
// after CreateIRQChip. KVM api.rst §4.71.
func (v *VM) CreatePIT() error {
	const speakerDummy = 1 // answer port 0x61 in the kernel too
	_, err := ioctlPtr(v.fd, "KVM_CREATE_PIT2", reqCreatePIT2, &pitConfig{Flags: speakerDummy})
	return err
}

// PITChannel is one counter of the 8254: struct kvm_pit_channel_state.
type PITChannel struct {
	Count         uint32
	LatchedCount  uint16
	CountLatched  uint8
	StatusLatched uint8
	Status        uint8
	ReadState     uint8
	WriteState    uint8
	WriteLatch    uint8
	RWMode        uint8
	Mode          uint8
	BCD           uint8
	Gate          uint8
	CountLoadTime int64 // nanoseconds of the host's monotonic clock
}

// PITState is struct kvm_pit_state2.
type PITState struct {
	Channels [3]PITChannel
	Flags    uint32
	_        [9]uint32
}

// PIT reads the 8254's state. KVM api.rst §4.72.
func (v *VM) PIT() (PITState, error) {
	var s PITState
	_, err := ioctlPtr(v.fd, "KVM_GET_PIT2", reqGetPIT2, &s)
	return s, err
}

// SetPIT sets the 8254's state. KVM api.rst §4.73.
func (v *VM) SetPIT(s PITState) error {
	_, err := ioctlPtr(v.fd, "KVM_SET_PIT2", reqSetPIT2, &s)
	return err
}

// IRQChipState is the state of one interrupt controller, as the kernel lays
// it out: struct kvm_irqchip.
type IRQChipState struct {
	Chip IRQChip
	_    uint32
	Data [512]byte
}

// IRQChip reads the state of an interrupt controller. KVM api.rst §4.26.
func (v *VM) IRQChip(chip IRQChip) (IRQChipState, error) {
	s := IRQChipState{Chip: chip}
	_, err := ioctlPtr(v.fd, "KVM_GET_IRQCHIP", reqGetIRQChip, &s)
	return s, err
}

// SetIRQChip sets the state of the interrupt controller s.Chip.
// KVM api.rst §4.27.
func (v *VM) SetIRQChip(s IRQChipState) error {
	_, err := ioctlPtr(v.fd, "KVM_SET_IRQCHIP", reqSetIRQChip, &s)
	return err
}
