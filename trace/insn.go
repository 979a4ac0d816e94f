package trace

import (
	"golang.org/x/arch/x86/x86asm"
)

// decoder finds the instruction behind an exit. Guests repeat themselves, so it
// remembers what it found.
type decoder struct {
	symbols Symbols // nil for none
	known   map[site]insn
}

// site is what the answer depends on.
type site struct {
	code   Code
	rip    uint64
	access Access
	write  bool
}

type insn struct {
	text   string
	symbol string
	rip    uint64
}

// maxKnown bounds the memory of a decoder.
const maxKnown = 1 << 14

// decode returns the instruction, where it lies and the symbol that holds it.
func (d *decoder) decode(r *Record) insn {
	key := site{r.Code, r.Registers.RIP, r.Access, r.Write}
	if found, ok := d.known[key]; ok {
		return found
	}
	found := insn{rip: r.Registers.RIP}
	if inst, at, ok := find(r); ok {
		found.rip = at
		found.text = syntax(inst, at, d.name)
	}
	found.symbol = d.place(found.rip)
	if d.known == nil || len(d.known) >= maxKnown {
		d.known = map[site]insn{}
	}
	d.known[key] = found
	return found
}

// name is a symbol for the disassembler.
func (d *decoder) name(addr uint64) (string, uint64) {
	if d.symbols == nil {
		return "", 0
	}
	name, off := d.symbols.Symbol(addr)
	return name, addr - off
}

// find finds the instruction that made the access of r: the one at RIP, or one
// that ends there. KVM leaves RIP at an instruction that it has yet to complete
// (a read, and most writes to ports) and after one that it has emulated (a write
// to memory). Which of the byte sequences that end at RIP it is, is told by what
// it does.
func find(r *Record) (inst x86asm.Inst, rip uint64, ok bool) {
	code, mode := r.Code.Bytes[:r.Code.Len], int(r.Code.Mode)
	before := int(r.Code.Before)
	at := func(start int) (x86asm.Inst, bool) {
		inst, err := x86asm.Decode(code[start:], mode)
		return inst, err == nil && inst.Len > 0
	}
	here, decoded := at(before)
	if decoded && (r.Access == NoAccess || matches(here, r, r.Registers.RIP+uint64(here.Len))) {
		return here, r.Registers.RIP, true
	}
	// The longest first: a prefix belongs to its instruction.
	for n := min(before, maxInsn); n > 0; n-- {
		if inst, ok := at(before - n); ok && inst.Len == n && matches(inst, r, r.Registers.RIP) {
			return inst, r.Registers.RIP - uint64(n), true
		}
	}
	return here, r.Registers.RIP, decoded
}

// matches reports whether an instruction, after which comes the one at next, can
// have made the access of r.
func matches(inst x86asm.Inst, r *Record, next uint64) bool {
	if r.Access == Port {
		switch inst.Op {
		case x86asm.OUT, x86asm.OUTSB, x86asm.OUTSW, x86asm.OUTSD:
			return r.Write
		case x86asm.IN, x86asm.INSB, x86asm.INSW, x86asm.INSD:
			return !r.Write
		}
		return false
	}
	switch inst.Op {
	case x86asm.MOVSB, x86asm.MOVSW, x86asm.MOVSD, x86asm.MOVSQ, x86asm.STOSB, x86asm.STOSW, x86asm.STOSD, x86asm.STOSQ,
		x86asm.LODSB, x86asm.LODSW, x86asm.LODSD, x86asm.LODSQ:
		return true // their registers have moved on
	case x86asm.LEA, x86asm.NOP, x86asm.JMP, x86asm.CALL:
		return false
	}
	for _, arg := range inst.Args {
		m, ok := arg.(x86asm.Mem)
		if !ok {
			continue
		}
		if inst.MemBytes != 0 && inst.MemBytes != int(r.Size) {
			continue // Linux reads and writes registers at their width
		}
		// Pages may be mapped anywhere, but the place in the page stays, and
		// segments that are not flat begin with a page.
		if addr, ok := effective(m, r, next); ok && addr&0xfff == r.Addr&0xfff {
			return true
		}
	}
	return false
}

// effective is the address of a memory operand. It is not ok where a register of
// the address is not one that is recorded.
func effective(m x86asm.Mem, r *Record, next uint64) (uint64, bool) {
	value := func(reg x86asm.Reg) (uint64, bool) {
		switch {
		case reg == 0:
			return 0, true
		case reg == x86asm.RIP || reg == x86asm.EIP:
			return next, true
		case reg >= x86asm.RAX && reg <= x86asm.R15:
			return r.Registers.GPR[reg-x86asm.RAX], true
		case reg >= x86asm.EAX && reg <= x86asm.R15L:
			return r.Registers.GPR[reg-x86asm.EAX] & 0xffff_ffff, true
		case reg >= x86asm.AX && reg <= x86asm.R15W:
			return r.Registers.GPR[reg-x86asm.AX] & 0xffff, true
		}
		return 0, false
	}
	base, ok1 := value(m.Base)
	index, ok2 := value(m.Index)
	return base + index*uint64(m.Scale) + uint64(m.Disp), ok1 && ok2
}
