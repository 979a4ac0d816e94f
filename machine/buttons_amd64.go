package machine

import (
	"errors"

	"vmm/kvm"
)

// PressPowerButton asks the guest to shut down. An operating system that does so
// has its services stop first, and then switches the machine off.
func (m *Machine) PressPowerButton() error {
	chip, err := m.vm.IRQChip(kvm.IOAPIC)
	if err != nil {
		return err
	}
	if ioAPICMasked(chip, irqPowerButton) {
		return errors.New("the guest does not listen to the power button: it has no driver for ACPI's generic event device, or has not started it yet")
	}
	m.powerButton.Set(true)
	m.powerButton.Set(false)
	return nil
}

// PressCtrlAltDel presses Ctrl, Alt and Del at the keyboard, which most operating
// systems take as a request to restart.
func (m *Machine) PressCtrlAltDel() error {
	if m.keyboard == nil {
		return errors.New("the machine has no keyboard")
	}
	return m.keyboard.CtrlAltDel()
}

// ioAPICMasked reports whether an input of the I/O APIC is masked: bit 16 of its
// redirection entry. 82093AA datasheet §3.2.4.
func ioAPICMasked(c kvm.IRQChipState, input int) bool {
	return le.Uint64(c.Data[ioAPICTable+8*input:])>>16&1 != 0
}
