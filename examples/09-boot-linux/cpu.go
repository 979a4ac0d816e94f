//go:build amd64

package main

import (
	"log"

	"vmm/boot"
	"vmm/kvm"
)

// enter gives a processor the registers of a boot protocol.
func enter(system *kvm.System, vcpu *kvm.VCPU, e boot.Entry) error {
	cpuid, err := system.SupportedCPUID()
	if err != nil {
		return err
	}
	if err := vcpu.SetCPUID(cpuid); err != nil {
		return err
	}
	// REP MOVS and STOS at full speed: a PC's firmware sets this bit, and Linux
	// relies on it. Intel SDM vol. 4, IA32_MISC_ENABLE.
	misc := []kvm.MSREntry{{Index: 0x1a0}}
	if err := vcpu.MSRs(misc); err != nil {
		return err
	}
	misc[0].Data |= 1
	if err := vcpu.SetMSRs(misc); err != nil {
		return err
	}
	s, err := vcpu.Sregs()
	if err != nil {
		return err
	}
	// Flat segments: 0x10 and 0x18 are what Linux expects.
	code := kvm.Segment{Selector: 0x10, Limit: 0xffff_ffff, Type: 0xb, Present: 1, S: 1, G: 1}
	data := kvm.Segment{Selector: 0x18, Limit: 0xffff_ffff, Type: 3, Present: 1, S: 1, DB: 1, G: 1}
	const pe, et, ne, pg, pae, lme, lma = 1 << 0, 1 << 4, 1 << 5, 1 << 31, 1 << 5, 1 << 8, 1 << 10
	if e.Mode == boot.LongMode {
		code.L = 1
		s.CR0, s.CR3, s.CR4, s.EFER = pe|et|ne|pg, e.CR3, pae, lme|lma
	} else {
		code.DB = 1
		s.CR0 = pe | et | ne
	}
	s.CS, s.DS, s.ES, s.FS, s.GS, s.SS = code, data, data, data, data, data
	s.TR = kvm.Segment{Limit: 0x67, Type: 0xb, Present: 1}
	s.LDT = kvm.Segment{Unusable: 1}
	s.GDT = kvm.DTable{Base: e.GDT.Base, Limit: e.GDT.Limit}
	if err := vcpu.SetSregs(s); err != nil {
		return err
	}
	return vcpu.SetRegs(kvm.Regs{RIP: e.RIP, RSI: e.RSI, RAX: e.RAX, RBX: e.RBX, RSP: e.RSP, RFLAGS: 1 << 1})
}

// line is the serial port's interrupt line.
type line struct {
	vm  *kvm.VM
	gsi uint32
}

// Set implements devices.Line.
func (l *line) Set(level bool) {
	if err := l.vm.SetIRQLine(l.gsi, level); err != nil {
		log.Print("interrupt line: ", err)
	}
}
