package machine

import (
	"fmt"

	"vmm/gdb"
	"vmm/kvm"
)

// Count implements gdb.Target.
func (d *Debugger) Count() int { return len(d.m.cpus) }

// Describe implements gdb.Target.
func (d *Debugger) Describe(id int) string {
	text := fmt.Sprintf("vCPU %d", id)
	var state kvm.MPState
	if err := d.m.onCPU(id, func(c *cpu) (err error) {
		state, err = c.vcpu.MPState()
		return err
	}); err != nil {
		return text
	}
	if doing := stateName(state); doing != running {
		text += " (" + doing + ")"
	}
	return text
}

// state is the state of a vCPU that a debugger sees.
type state struct {
	regs  kvm.Regs
	sregs kvm.Sregs
	fpu   kvm.FPU
	xsave kvm.XSave // from which fpu is
}

// state reads a vCPU's state. It is called on its goroutine. A processor that has
// come to a breakpoint has its registers there.
func (c *cpu) state() (s state, err error) {
	if c.debug.hit != nil {
		s.regs = c.debug.hit.Regs
	} else if s.regs, err = c.vcpu.Regs(); err != nil {
		return s, err
	}
	if s.sregs, err = c.vcpu.Sregs(); err != nil {
		return s, err
	}
	s.xsave, err = c.vcpu.XSave()
	s.fpu = s.xsave.FPU()
	return s, err
}

// field ties a register to its place in the state. Exactly one of the pointers is
// set.
type field struct {
	reg gdb.Register
	r64 *uint64
	r32 *uint32
	r16 *uint16
	r8  *uint8
}

// fields are the registers that are numbers, each of which gdb may change.
func (s *state) fields() []field {
	r, x, f := &s.regs, &s.sregs, &s.fpu
	return []field{
		{reg: gdb.RAX, r64: &r.RAX}, {reg: gdb.RBX, r64: &r.RBX}, {reg: gdb.RCX, r64: &r.RCX}, {reg: gdb.RDX, r64: &r.RDX},
		{reg: gdb.RSI, r64: &r.RSI}, {reg: gdb.RDI, r64: &r.RDI}, {reg: gdb.RBP, r64: &r.RBP}, {reg: gdb.RSP, r64: &r.RSP},
		{reg: gdb.R8, r64: &r.R8}, {reg: gdb.R9, r64: &r.R9}, {reg: gdb.R10, r64: &r.R10}, {reg: gdb.R11, r64: &r.R11},
		{reg: gdb.R12, r64: &r.R12}, {reg: gdb.R13, r64: &r.R13}, {reg: gdb.R14, r64: &r.R14}, {reg: gdb.R15, r64: &r.R15},
		{reg: gdb.RIP, r64: &r.RIP}, {reg: gdb.EFLAGS, r64: &r.RFLAGS},
		{reg: gdb.CS, r16: &x.CS.Selector}, {reg: gdb.SS, r16: &x.SS.Selector}, {reg: gdb.DS, r16: &x.DS.Selector},
		{reg: gdb.ES, r16: &x.ES.Selector}, {reg: gdb.FS, r16: &x.FS.Selector}, {reg: gdb.GS, r16: &x.GS.Selector},
		{reg: gdb.FCTRL, r16: &f.FCW}, {reg: gdb.FCTRL + 1, r16: &f.FSW}, {reg: gdb.FCTRL + 7, r16: &f.LastOpcode},
		{reg: gdb.MXCSR, r32: &f.MXCSR},
		{reg: gdb.FSBase, r64: &x.FS.Base}, {reg: gdb.GSBase, r64: &x.GS.Base},
		{reg: gdb.CR0, r64: &x.CR0}, {reg: gdb.CR2, r64: &x.CR2}, {reg: gdb.CR3, r64: &x.CR3}, {reg: gdb.CR4, r64: &x.CR4},
		{reg: gdb.CR8, r64: &x.CR8}, {reg: gdb.EFER, r64: &x.EFER}, {reg: gdb.APICBase, r64: &x.APICBase},
		{reg: gdb.GDTBase, r64: &x.GDT.Base}, {reg: gdb.GDTLimit, r16: &x.GDT.Limit},
		{reg: gdb.IDTBase, r64: &x.IDT.Base}, {reg: gdb.IDTLimit, r16: &x.IDT.Limit},
		{reg: gdb.TR, r16: &x.TR.Selector}, {reg: gdb.LDTR, r16: &x.LDT.Selector},
	}
}

// get is the value of a field.
func (f field) get() uint64 {
	switch {
	case f.r64 != nil:
		return *f.r64
	case f.r32 != nil:
		return uint64(*f.r32)
	case f.r16 != nil:
		return uint64(*f.r16)
	}
	return uint64(*f.r8)
}

func (f field) set(v uint64) {
	switch {
	case f.r64 != nil:
		*f.r64 = v
	case f.r32 != nil:
		*f.r32 = uint32(v)
	case f.r16 != nil:
		*f.r16 = uint16(v)
	default:
		*f.r8 = uint8(v)
	}
}

// Registers implements gdb.Target.
func (d *Debugger) Registers(id int) (r gdb.Registers, err error) {
	err = d.m.onCPU(id, func(c *cpu) error {
		s, err := c.state()
		if err != nil {
			return err
		}
		for _, f := range s.fields() {
			r.SetUint(f.reg, f.get())
		}
		for i := range s.fpu.FPR {
			copy(r.Bytes(gdb.ST0+gdb.Register(i)), s.fpu.FPR[i][:10])
		}
		for i := range s.fpu.XMM {
			copy(r.Bytes(gdb.XMM0+gdb.Register(i)), s.fpu.XMM[i][:])
		}
		r.SetUint(gdb.FCTRL+2, uint64(fullTags(s.fpu)))
		r.SetUint(gdb.FCTRL+3, s.fpu.LastIP>>32)
		r.SetUint(gdb.FCTRL+4, s.fpu.LastIP&0xffff_ffff)
		r.SetUint(gdb.FCTRL+5, s.fpu.LastDP>>32)
		r.SetUint(gdb.FCTRL+6, s.fpu.LastDP&0xffff_ffff)
		return nil
	})
	return r, err
}

// SetRegisters implements gdb.Target. Only what has changed is set: KVM refuses
// some values that it has given itself.
func (d *Debugger) SetRegisters(id int, r gdb.Registers) error {
	return d.m.onCPU(id, func(c *cpu) error {
		old, err := c.state()
		if err != nil {
			return err
		}
		s := old
		for _, f := range s.fields() {
			f.set(r.Uint(f.reg))
		}
		for i := range s.fpu.FPR {
			copy(s.fpu.FPR[i][:10], r.Bytes(gdb.ST0+gdb.Register(i)))
		}
		for i := range s.fpu.XMM {
			copy(s.fpu.XMM[i][:], r.Bytes(gdb.XMM0+gdb.Register(i)))
		}
		s.fpu.FTWX = abridgedTags(uint16(r.Uint(gdb.FCTRL + 2)))
		if s.fpu != old.fpu {
			s.xsave.SetFPU(s.fpu)
			if err := c.vcpu.SetXSave(s.xsave); err != nil {
				return err
			}
		}
		if s.sregs != old.sregs {
			if err := c.vcpu.SetSregs(s.sregs); err != nil {
				return err
			}
		}
		if c.debug.hit != nil {
			c.debug.hit.Regs = s.regs
			return nil
		}
		if s.regs == old.regs {
			return nil
		}
		return c.vcpu.SetRegs(s.regs)
	})
}

// Tags of x87 registers. Intel SDM vol. 1 §8.1.7.
const (
	tagValid = iota
	tagZero
	tagSpecial
	tagEmpty
)

// fullTags is the tag word of two bits a register, of which FXSAVE keeps only
// whether a register is empty. Intel SDM vol. 1 §10.5.1.1, table 10-2.
func fullTags(f kvm.FPU) uint16 {
	top := int(f.FSW >> 11 & 7)
	var word uint16
	for i := range 8 { // physical registers; those of FPR count from the top of the stack
		tag := uint16(tagEmpty)
		if f.FTWX>>i&1 != 0 {
			tag = tagOf(f.FPR[(i-top+8)%8])
		}
		word |= tag << (2 * i)
	}
	return word
}

func tagOf(b [16]uint8) uint16 {
	mantissa, exponent := le.Uint64(b[:]), le.Uint16(b[8:])&0x7fff
	switch {
	case exponent == 0 && mantissa == 0:
		return tagZero
	case exponent == 0 || exponent == 0x7fff || mantissa>>63 == 0:
		return tagSpecial
	}
	return tagValid
}

func abridgedTags(word uint16) uint8 {
	var tags uint8
	for i := range 8 {
		if word>>(2*i)&3 != tagEmpty {
			tags |= 1 << i
		}
	}
	return tags
}
