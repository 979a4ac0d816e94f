package machine

import (
	"fmt"
	"io"
	"time"

	"vmm/kvm"
)

// A triple fault is a shutdown to the processor. AMD leaves the guest's state in
// the VMCB undefined then (AMD APM vol. 2 §15.14.3), so KVM puts the vCPU into the
// state after INIT before it tells vmm: what the registers were is gone. On Intel
// the VMCS has them still.
const lostRegisters = "KVM on AMD resets the vCPU at a triple fault, since the processor leaves its state undefined"

// reset reports whether a vCPU has the registers of a reset or an INIT, with
// which vmm never starts one. Intel SDM vol. 3 table 11-1; AMD APM vol. 2 §14.1.3.
func reset(r kvm.Regs, s kvm.Sregs) bool {
	const vector, base = 0xfff0, 0xffff_0000
	return r.RIP == vector && s.CS.Base == base && s.CR0&cr0PE == 0
}

// known are the registers of a vCPU at an exit.
type known struct {
	regs kvm.Regs
	at   time.Time // zero: none are known
}

// note keeps the registers of an exit of a machine that is watched, for the report
// of a crash that has lost them. It follows wantRegisters.
func (c *cpu) note(exit kvm.Exit) {
	if c.syncRegs && exit.Reason != kvm.ExitShutdown {
		c.known = known{exit.Regs(), time.Now()}
	}
}

// Known are the registers that a vCPU last had at an exit.
type Known struct {
	Registers GeneralRegisters `json:"registers"`
	// Seconds is how long that was before the crash.
	Seconds float64 `json:"seconds_before"`
}

// GeneralRegisters are the general-purpose registers, RIP and RFLAGS.
type GeneralRegisters kvm.Regs

// MarshalJSON writes them as Registers does.
func (g GeneralRegisters) MarshalJSON() ([]byte, error) { return marshalHex(general(kvm.Regs(g))) }

func (k known) before(now time.Time) *Known {
	if k.at.IsZero() {
		return nil
	}
	return &Known{GeneralRegisters(k.regs), now.Sub(k.at).Seconds()}
}

// writeLost writes what there is instead of the registers.
func (c *Crash) writeLost(w io.Writer) {
	fmt.Fprintf(w, "  vcpu %d  its registers are lost: %s\n", c.CPU, c.Lost)
	if k := c.Known; k != nil {
		fmt.Fprintf(w, "  at its last exit, %.6f s before: rip %016x  rflags %08x\n", k.Seconds, k.Registers.RIP, k.Registers.RFLAGS)
		writeGeneral(w, kvm.Regs(k.Registers))
	} else {
		fmt.Fprintln(w, "  with --timeline, or with probes, vmm shows those of the last exit")
	}
	fmt.Fprintf(w, "  last exit: %s\n", c.LastAccess)
}
