package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"time"

	"vmm/kvm"
	"vmm/trace"
)

// Crash describes a guest that cannot go on.
type Crash struct {
	// Reason says what happened, in one line.
	Reason string `json:"reason"`
	// CPU is the number of the vCPU; the fields below are its state. They are
	// absent (Registers is nil) when the guest itself reported the crash.
	CPU       int        `json:"vcpu"`
	Registers *Registers `json:"registers,omitempty"`
	// Code holds the bytes at RIP, as far as they could be read.
	Code Hex `json:"code,omitempty"`
	// Insn is the instruction at RIP, disassembled in Intel's syntax; "" where
	// the bytes are none.
	Insn string `json:"instruction,omitempty"`
	// Unemulated says that KVM's emulator lacks the instruction. On a host whose
	// KVM interprets a guest's kernel that is to be expected of many.
	Unemulated bool `json:"unemulated,omitempty"`
	// Lost says why there are no registers, where KVM has not kept them.
	Lost string `json:"registers_lost,omitempty"`
	// Known are the registers at the exit before, of a machine with a timeline or
	// with probes.
	Known *Known `json:"last_known,omitempty"`
	// LastAccess is the last access that the vCPU asked vmm for.
	LastAccess string `json:"last_exit,omitempty"`
}

// Hex are bytes that are written in hexadecimal.
type Hex []byte

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", []byte(h)), nil }

// Registers are the registers of a crashed vCPU.
type Registers struct {
	kvm.Regs
	kvm.Sregs
}

// MarshalJSON writes the registers by the names that the manuals give them, in
// hexadecimal: numbers of 64 bits are more than most readers of JSON hold.
func (r *Registers) MarshalJSON() ([]byte, error) {
	values := general(r.Regs)
	maps.Copy(values, map[string]uint64{
		"cr0": r.CR0, "cr2": r.CR2, "cr3": r.CR3, "cr4": r.CR4, "efer": r.EFER,
		"cs": uint64(r.CS.Selector), "ss": uint64(r.SS.Selector), "ds": uint64(r.DS.Selector),
		"es": uint64(r.ES.Selector), "fs": uint64(r.FS.Selector), "gs": uint64(r.GS.Selector),
		"fs_base": r.FS.Base, "gs_base": r.GS.Base, "gdt_base": r.GDT.Base, "idt_base": r.IDT.Base,
	})
	return marshalHex(values)
}

// general are the general-purpose registers by name.
func general(r kvm.Regs) map[string]uint64 {
	return map[string]uint64{
		"rip": r.RIP, "rflags": r.RFLAGS,
		"rax": r.RAX, "rbx": r.RBX, "rcx": r.RCX, "rdx": r.RDX,
		"rsi": r.RSI, "rdi": r.RDI, "rsp": r.RSP, "rbp": r.RBP,
		"r8": r.R8, "r9": r.R9, "r10": r.R10, "r11": r.R11,
		"r12": r.R12, "r13": r.R13, "r14": r.R14, "r15": r.R15,
	}
}

func marshalHex(values map[string]uint64) ([]byte, error) {
	text := make(map[string]string, len(values))
	for name, v := range values {
		text[name] = fmt.Sprintf("%#x", v)
	}
	return json.Marshal(text)
}

// report collects the state of a vCPU that cannot go on. What KVM refuses to
// tell is left out: the crash itself is the news.
func (c *cpu) report(m *Machine, reason string) *Crash {
	crash := &Crash{Reason: reason, CPU: c.vcpu.ID, LastAccess: c.recent.last().String()}
	regs, err := c.vcpu.Regs()
	if err != nil {
		return crash
	}
	sregs, err := c.vcpu.Sregs()
	if err != nil {
		return crash
	}
	if reset(regs, sregs) {
		crash.Lost = lostRegisters
		crash.Known = c.known.before(time.Now())
		return crash
	}
	crash.Registers = &Registers{regs, sregs}
	crash.Code = c.code(m, sregs.CS.Base+regs.RIP)
	if insns := trace.Disassemble(crash.Code, regs.RIP, mode(sregs), nil); len(insns) > 0 && insns[0].Text != trace.NoInstruction {
		crash.Insn = insns[0].Text
	}
	return crash
}

// internalError stops the machine because of a failure inside KVM.
func (c *cpu) internalError(m *Machine, e kvm.InternalError) {
	crash := c.report(m, e.Error())
	if e.Suberror == kvm.ErrorEmulation {
		crash.Unemulated = true
		if crash.Insn != "" {
			crash.Reason = "KVM cannot emulate the instruction " + crash.Insn
		}
	}
	m.stop(Outcome{Kind: Crashed, Crash: crash}, nil)
}

// code reads the instruction bytes at a linear address through the guest's
// page tables: at most 15, the longest an instruction can be (Intel SDM vol. 2
// §2.3.11), and fewer where the next page is not mapped.
func (c *cpu) code(m *Machine, linear uint64) Hex {
	var code Hex
	for len(code) < 15 {
		t, err := c.vcpu.Translate(linear + uint64(len(code)))
		if err != nil || t.Valid == 0 {
			break
		}
		b, err := m.memory.Slice(t.Physical, 1)
		if err != nil {
			break
		}
		code = append(code, b[0])
	}
	return code
}

// mode is the width, in bits, of the code a vCPU executes.
func mode(s kvm.Sregs) int {
	switch {
	case s.EFER&eferLMA != 0 && s.CS.L != 0:
		return 64
	case s.CR0&cr0PE != 0 && s.CS.DB != 0:
		return 32
	}
	return 16
}

// WriteTo writes the crash for a person to read, a fact a line.
func (c *Crash) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "the guest crashed: %s\n", c.Reason)
	if c.Lost != "" {
		c.writeLost(&b)
	}
	if r := c.Registers; r != nil {
		fmt.Fprintf(&b, "  vcpu %d  rip %04x:%016x  rflags %08x\n", c.CPU, r.CS.Selector, r.RIP, r.RFLAGS)
		writeGeneral(&b, r.Regs)
		fmt.Fprintf(&b, "  cr0 %08x  cr2 %016x  cr3 %016x  cr4 %08x  efer %04x\n", r.CR0, r.CR2, r.CR3, r.CR4, r.EFER)
		insn := c.Insn
		if insn == "" {
			insn = "not decodable"
		}
		fmt.Fprintf(&b, "  instruction: %s  (% x)\n", insn, []byte(c.Code))
		fmt.Fprintf(&b, "  last exit: %s\n", c.LastAccess)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func writeGeneral(w io.Writer, r kvm.Regs) {
	fmt.Fprintf(w, "  rax %016x  rbx %016x  rcx %016x  rdx %016x\n", r.RAX, r.RBX, r.RCX, r.RDX)
	fmt.Fprintf(w, "  rsi %016x  rdi %016x  rsp %016x  rbp %016x\n", r.RSI, r.RDI, r.RSP, r.RBP)
	fmt.Fprintf(w, "  r8  %016x  r9  %016x  r10 %016x  r11 %016x\n", r.R8, r.R9, r.R10, r.R11)
	fmt.Fprintf(w, "  r12 %016x  r13 %016x  r14 %016x  r15 %016x\n", r.R12, r.R13, r.R14, r.R15)
}

// logProcessors says what each processor was doing when it was stopped.
func (m *Machine) logProcessors() {
	if !m.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	for _, c := range m.cpus {
		regs, rerr := c.vcpu.Regs()
		state, serr := c.vcpu.MPState()
		m.log.Debug("stopped", "vcpu", c.vcpu.ID, "rip", fmt.Sprintf("%#x", regs.RIP), "rflags", fmt.Sprintf("%#x", regs.RFLAGS),
			"state", state, "last", c.recent.last(), "err", errors.Join(rerr, serr))
	}
}
