package kvm

// Regs are the general-purpose registers: struct kvm_regs.
type Regs struct {
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is a segment register with its hidden part: struct kvm_segment.
// Intel SDM vol. 3 §3.4.5.
type Segment struct {
	Base     uint64
	Limit    uint32 // bytes, already scaled by G
	Selector uint16
	Type     uint8
	Present  uint8
	DPL      uint8
	DB       uint8
	S        uint8
	L        uint8
	G        uint8
	AVL      uint8
	Unusable uint8
	_        uint8
}

// DTable is the GDTR or IDTR: struct kvm_dtable.
type DTable struct {
	Base  uint64
	Limit uint16 // the last valid byte
	_     [3]uint16
}

// Sregs are the segment, control and descriptor-table registers: struct
// kvm_sregs.
type Sregs struct {
	CS, DS, ES, FS, GS, SS  Segment
	TR, LDT                 Segment
	GDT, IDT                DTable
	CR0, CR2, CR3, CR4, CR8 uint64
	EFER                    uint64
	APICBase                uint64
	InterruptBitmap         [4]uint64
}

// FPU is the x87 and SSE state: struct kvm_fpu.
type FPU struct {
	FPR        [8][16]uint8
	FCW        uint16
	FSW        uint16
	FTWX       uint8 // as FXSAVE abridges it
	_          uint8
	LastOpcode uint16
	LastIP     uint64
	LastDP     uint64
	XMM        [16][16]uint8
	MXCSR      uint32
	_          uint32
}

// Regs reads the general-purpose registers. KVM api.rst §4.11.
func (c *VCPU) Regs() (Regs, error) { return get[Regs](c, "KVM_GET_REGS", reqGetRegs) }

// SetRegs sets the general-purpose registers. KVM api.rst §4.12.
func (c *VCPU) SetRegs(r Regs) error { return set(c, "KVM_SET_REGS", reqSetRegs, &r) }

// Sregs reads the special registers. KVM api.rst §4.13.
func (c *VCPU) Sregs() (Sregs, error) { return get[Sregs](c, "KVM_GET_SREGS", reqGetSregs) }

// SetSregs sets the special registers. KVM api.rst §4.14.
func (c *VCPU) SetSregs(s Sregs) error { return set(c, "KVM_SET_SREGS", reqSetSregs, &s) }

// FPU reads the floating-point state. KVM api.rst §4.22.
func (c *VCPU) FPU() (FPU, error) { return get[FPU](c, "KVM_GET_FPU", reqGetFPU) }

// SetFPU sets the floating-point state. KVM api.rst §4.23.
//
// It does not mark the registers as used, and a processor with XSAVE then begins
// with none of them: [XSave.SetFPU] does.
func (c *VCPU) SetFPU(f FPU) error { return set(c, "KVM_SET_FPU", reqSetFPU, &f) }

// XSave is the extended processor state, laid out as XSAVE stores it: struct
// kvm_xsave. Intel SDM vol. 1 §13.4.
type XSave struct {
	Region [4096]uint8
}

// XSave reads the extended state. KVM api.rst §4.42.
func (c *VCPU) XSave() (XSave, error) { return get[XSave](c, "KVM_GET_XSAVE", reqGetXSave) }

// SetXSave sets the extended state. KVM api.rst §4.43.
func (c *VCPU) SetXSave(x XSave) error { return set(c, "KVM_SET_XSAVE", reqSetXSave, &x) }

// XCR is an extended control register: struct kvm_xcr.
type XCR struct {
	Index uint32 // 0 is XCR0, the only one there is
	_     uint32
	Value uint64
}

// XCRs are the extended control registers: struct kvm_xcrs.
type XCRs struct {
	N     uint32 // how many of Regs count
	Flags uint32
	Regs  [16]XCR
	_     [16]uint64
}

// XCRs reads the extended control registers. KVM api.rst §4.44.
func (c *VCPU) XCRs() (XCRs, error) { return get[XCRs](c, "KVM_GET_XCRS", reqGetXCRs) }

// SetXCRs sets the extended control registers. KVM api.rst §4.45.
func (c *VCPU) SetXCRs(x XCRs) error { return set(c, "KVM_SET_XCRS", reqSetXCRs, &x) }

// DebugRegs are the guest's own debug registers: struct kvm_debugregs.
type DebugRegs struct {
	DB    [4]uint64
	DR6   uint64
	DR7   uint64
	Flags uint64
	_     [9]uint64
}

// DebugRegs reads the guest's debug registers. KVM api.rst §4.33.
func (c *VCPU) DebugRegs() (DebugRegs, error) {
	return get[DebugRegs](c, "KVM_GET_DEBUGREGS", reqGetDebugRegs)
}

// SetDebugRegs sets the guest's debug registers. KVM api.rst §4.34.
func (c *VCPU) SetDebugRegs(d DebugRegs) error {
	return set(c, "KVM_SET_DEBUGREGS", reqSetDebugRegs, &d)
}

// Translation is what the guest's page tables say of a linear address: struct
// kvm_translation.
type Translation struct {
	Linear   uint64
	Physical uint64
	Valid    uint8
	Writable uint8
	User     uint8
	_        [5]uint8
}

// Translate walks the guest's page tables for a linear address, in the vCPU's
// present mode. KVM api.rst §4.15.
func (c *VCPU) Translate(linear uint64) (Translation, error) {
	t := Translation{Linear: linear}
	err := set(c, "KVM_TRANSLATE", reqTranslate, &t)
	return t, err
}
