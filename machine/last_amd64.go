package machine

import (
	"vmm/devices"
	"vmm/kvm"
	"vmm/trace"
)

// rflagsIF says that the processor takes interrupts. Intel SDM vol. 1 §3.4.3.3.
const rflagsIF = 1 << 9

// Last is what a machine did last. It is for who wants to know why a guest said
// nothing; call it after Run.
func (m *Machine) Last() Last {
	l := Last{Screen: screen(m.memory), Warnings: m.warnings.all()}
	for _, c := range m.cpus {
		l.CPUs = append(l.CPUs, c.lastState(m))
	}
	l.strays(m)
	return l
}

// lastState is what a processor did last, as far as KVM tells.
func (c *cpu) lastState(m *Machine) LastCPU {
	l := LastCPU{CPU: c.vcpu.ID, Exits: c.exits.Load()}
	for _, a := range c.recent.oldestFirst() {
		l.Accesses = append(l.Accesses, a.describe(m))
	}
	state, err := c.vcpu.MPState()
	if err == nil && (state == kvm.MPUninitialized || state == kvm.MPInitReceived) {
		l.State = StateNotStarted
		return l
	}
	r := c.report(m, "")
	if r.Registers == nil {
		return l
	}
	l.State = StateRunning
	if crash := m.outcome.Crash; crash != nil && crash.Registers != nil && crash.CPU == l.CPU {
		l.State = StateCrashed
	} else if state == kvm.MPHalted || c.behindHalt(m, r) {
		l.State = StateHalted
		if r.Registers.RFLAGS&rflagsIF == 0 {
			l.State = StateDead
		}
	}
	l.Mode, l.RIP, l.Insn = mode(r.Registers.Sregs), trace.Hex(r.Registers.RIP), r.Insn
	return l
}

// behindHalt reports whether the processor waits in HLT, although KVM does not say
// so, having been asked to stop: it then is behind that instruction, 0xf4, and what
// follows is a jump back, or nothing if interrupts are off.
func (c *cpu) behindHalt(m *Machine, r *Crash) bool {
	before := c.code(m, r.Registers.CS.Base+r.Registers.RIP-1)
	if len(before) == 0 || before[0] != 0xf4 {
		return false
	}
	const shortJump = 0xeb
	return r.Registers.RFLAGS&rflagsIF == 0 || len(r.Code) > 0 && r.Code[0] == shortJump
}

// strays adds the accesses that no device answered.
func (l *Last) strays(m *Machine) {
	add := func(all []devices.Stray, port bool) {
		for _, s := range all {
			a := access{addr: s.Addr, size: s.Size, port: port, write: s.Write, valid: true}
			l.Unclaimed = append(l.Unclaimed, Unclaimed{a.String(), port, trace.Hex(s.Addr), s.Write, s.Count})
		}
	}
	add(m.ports.Strays(), true)
	add(m.mmio.Strays(), false)
}
