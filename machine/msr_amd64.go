package machine

import (
	"vmm/kvm"
)

// Model-specific registers that firmware sets. Intel SDM vol. 4, table 2-2.
const (
	msrMiscEnable  = 0x1a0
	msrMTRRDefType = 0x2ff

	miscFastStrings = 1 << 0 // REP MOVS and STOS in whole cache lines

	mtrrEnable    = 1 << 11
	mtrrWriteBack = 6 // the type of memory without a range of its own
)

// setMSRs sets the registers that firmware sets before it starts a system:
// without fast strings Linux copies memory byte by byte, and with the MTRRs
// off all memory counts as uncached.
func (c *cpu) setMSRs() error {
	misc := []kvm.MSREntry{{Index: msrMiscEnable}}
	if err := c.vcpu.MSRs(misc); err != nil {
		return err
	}
	return c.vcpu.SetMSRs([]kvm.MSREntry{
		{Index: msrMiscEnable, Data: misc[0].Data | miscFastStrings},
		{Index: msrMTRRDefType, Data: mtrrEnable | mtrrWriteBack},
	})
}

// Registers of the local vector table. Intel SDM vol. 3 §11.5.1.
const (
	lvtLINT0 = 0x350
	lvtLINT1 = 0x360

	deliverNMI    = 4 << 8
	deliverExtINT = 7 << 8
)

// setLINT wires the local APIC's two pins as a PC does: the PIC's interrupts
// to the boot processor, and NMIs to all. MultiProcessor Specification 1.4
// §3.6.2.2, "virtual wire mode".
func (c *cpu) setLINT() error {
	apic, err := c.vcpu.LAPIC()
	if err != nil {
		return err
	}
	if c.vcpu.ID == 0 {
		le.PutUint32(apic.Regs[lvtLINT0:], deliverExtINT)
	}
	le.PutUint32(apic.Regs[lvtLINT1:], deliverNMI)
	return c.vcpu.SetLAPIC(apic)
}
