package machine

import (
	"vmm/kvm"
	"vmm/memory"
	"vmm/trace"
)

// wantRegisters has the next exit come with registers, where KVM can do that.
func (c *cpu) wantRegisters() {
	if c.syncRegs {
		c.vcpu.SyncRegs(true)
	}
}

// details adds the registers, and the code around the instruction.
func (c *cpu) details(m *Machine, exit kvm.Exit) {
	var regs kvm.Regs
	if c.syncRegs {
		regs = exit.Regs()
	} else {
		var err error
		if regs, err = c.vcpu.Regs(); err != nil {
			return
		}
	}
	c.record.Registers = trace.Registers{
		GPR: [16]uint64{
			regs.RAX, regs.RCX, regs.RDX, regs.RBX, regs.RSP, regs.RBP, regs.RSI, regs.RDI,
			regs.R8, regs.R9, regs.R10, regs.R11, regs.R12, regs.R13, regs.R14, regs.R15,
		},
		RIP: regs.RIP, Valid: true,
	}
	place, ok := c.places[regs.RIP]
	if now := c.record.Time; !ok || now > place.expires {
		place = c.place(m, regs.RIP)
		place.expires = now + placeLifetime
		if c.places == nil || len(c.places) >= maxPlaces {
			c.places = map[uint64]codePlace{}
		}
		c.places[regs.RIP] = place
	}
	place.read(m.memory, &c.record.Code)
}

// codePlace is where the code around an address lies in guest memory. To find it
// takes calls into KVM, so it is remembered, for a while: the guest may map
// something else there.
type codePlace struct {
	expires int64 // a time of the trace
	mode    uint8
	before  uint8
	pieces  [2]piece // two, for code that crosses pages
}

// piece is a piece of code in one page.
type piece struct {
	gpa uint64
	n   uint8
}

const (
	placeLifetime = 100_000_000 // nanoseconds
	maxPlaces     = 4096
)

// place finds the code around an instruction pointer: as much as an instruction
// before it and one after, as far as it is mapped.
func (c *cpu) place(m *Machine, rip uint64) codePlace {
	var p codePlace
	sregs, err := c.vcpu.Sregs()
	if err != nil {
		return p
	}
	p.mode = uint8(mode(sregs))
	const half = trace.MaxCode / 2
	linear := sregs.CS.Base + rip
	start, n := linear-half, uint64(trace.MaxCode)
	here, next := start&^(memory.PageSize-1), (start+n)&^(memory.PageSize-1)
	if here == next {
		if gpa, ok := c.physical(linear); ok {
			p.pieces[0], p.before = piece{gpa - half, trace.MaxCode}, half
		}
		return p
	}
	first := uint8(next - start) // bytes before the boundary
	if gpa, ok := c.physical(start); ok {
		p.pieces[0], p.before = piece{gpa, first}, half
	} else if linear < next {
		return p
	} else {
		p.before = uint8(linear - next)
	}
	if gpa, ok := c.physical(next); ok {
		p.pieces[1] = piece{gpa, trace.MaxCode - first}
	} else if linear >= next {
		return codePlace{mode: p.mode}
	}
	return p
}

func (c *cpu) physical(linear uint64) (uint64, bool) {
	t, err := c.vcpu.Translate(linear)
	return t.Physical, err == nil && t.Valid != 0
}

// read copies what lies there now.
func (p *codePlace) read(ram *memory.Guest, code *trace.Code) {
	code.Mode, code.Before = p.mode, p.before
	for _, piece := range p.pieces {
		b, err := ram.Slice(piece.gpa, uint64(piece.n))
		if err != nil {
			code.Before, code.Len = 0, 0
			return
		}
		code.Len += uint8(copy(code.Bytes[code.Len:], b))
	}
}
