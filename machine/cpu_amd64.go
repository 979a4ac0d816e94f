package machine

import (
	"vmm/boot"
	"vmm/kvm"
)

// Bits of the control registers. Intel SDM vol. 3 §2.5 and §2.2.1.
const (
	cr0PE = 1 << 0  // protected mode
	cr0ET = 1 << 4  // x87 present; always reads as 1
	cr0NE = 1 << 5  // x87 errors as exceptions
	cr0PG = 1 << 31 // paging

	cr4PAE = 1 << 5

	eferLME = 1 << 8  // long mode enabled
	eferLMA = 1 << 10 // and active

	rflagsFixed = 1 << 1 // always 1
)

// setUp brings a vCPU into the state that firmware leaves it in, without the
// registers that a boot protocol decides. Application processors stay as they
// come out of reset and wait for the guest to start them.
func (c *cpu) setUp(cpuid []kvm.CPUIDEntry) error {
	// CPUID first: KVM knows some registers only with their CPUID bit.
	if err := c.setCPUID(cpuid); err != nil {
		return err
	}
	if err := c.setMSRs(); err != nil {
		return err
	}
	return c.setLINT()
}

// told is what a processor tells of itself.
type told = []kvm.CPUIDEntry

func (c *cpu) setCPUID(cpuid told) error {
	c.cpuid = cpuid
	return c.vcpu.SetCPUID(cpuid)
}

// enter sets the registers with which the boot processor begins.
func (c *cpu) enter(e boot.Entry) error {
	s, err := c.vcpu.Sregs()
	if err != nil {
		return err
	}
	// Flat segments. Type 0xb is execute/read, accessed; 3 read/write,
	// accessed: VMX insists on the accessed bit, and on a busy TSS even where
	// none is used. Intel SDM vol. 3 §27.3.1.2.
	code := kvm.Segment{Limit: 0xffff_ffff, Selector: e.CS, Type: 0xb, Present: 1, S: 1, G: 1}
	data := kvm.Segment{Limit: 0xffff_ffff, Selector: e.DS, Type: 3, Present: 1, S: 1, G: 1, DB: 1}
	if e.Mode == boot.LongMode {
		code.L = 1
		s.CR0 = cr0PE | cr0ET | cr0NE | cr0PG
		s.CR3 = e.CR3
		s.CR4 = cr4PAE
		s.EFER = eferLME | eferLMA
	} else {
		code.DB = 1
		s.CR0 = cr0PE | cr0ET | cr0NE
		s.CR4 = 0
		s.EFER = 0
	}
	s.CS = code
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.TR = kvm.Segment{Limit: 0x67, Type: 0xb, Present: 1}
	s.LDT = kvm.Segment{Unusable: 1}
	s.GDT = kvm.DTable{Base: e.GDT.Base, Limit: e.GDT.Limit}
	s.IDT = kvm.DTable{}
	if err := c.vcpu.SetSregs(s); err != nil {
		return err
	}
	return c.vcpu.SetRegs(kvm.Regs{RIP: e.RIP, RAX: e.RAX, RBX: e.RBX, RSI: e.RSI, RSP: e.RSP, RFLAGS: rflagsFixed})
}

// resumed tells the guest that time has passed without it.
func (c *cpu) resumed() {
	// It fails for a guest that has no use for it.
	_ = c.vcpu.PausedClock()
}
