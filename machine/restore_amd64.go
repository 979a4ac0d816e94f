package machine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vmm/cpuid"
	"vmm/kvm"
)

// restore gives the machine, which is like the one that was saved and has its memory,
// the state of that. Devices stay at rest until Run.
func (m *Machine) restore(s *SavedState) error {
	m.pausing.Lock()
	defer m.pausing.Unlock()
	if err := m.quiesce(pausePatience); err != nil {
		return err
	}
	if err := m.restoreDevices(s); err != nil {
		return err
	}
	if m.pci != nil {
		m.pci.SetAddress(s.PCIAddress)
	}
	// Now that the devices drive their lines: what is at the chips counts.
	now := time.Now()
	if err := m.restoreChips(s.Chips, now); err != nil {
		return err
	}
	// Before the deadlines of timers, which are values of the counters.
	if err := m.restoreTSC(s.Processors, now); err != nil {
		return err
	}
	for i, c := range m.cpus {
		if err := c.restore(&s.Processors[i], m.xstate); err != nil {
			return err
		}
	}
	m.entry = s.Entry
	return nil
}

func (m *Machine) restoreDevices(s *SavedState) error {
	names := slices.Sorted(maps.Keys(m.stateful))
	if got := slices.Sorted(maps.Keys(s.Devices)); !slices.Equal(got, names) {
		return fmt.Errorf("devices: %s, and the machine has %s", strings.Join(got, ", "), strings.Join(names, ", "))
	}
	for _, name := range names {
		if err := m.stateful[name].SetState(s.Devices[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(s.Virtio) != len(m.transports) {
		return fmt.Errorf("virtio: there are %d devices, and the machine has %d", len(s.Virtio), len(m.transports))
	}
	for _, t := range m.transports {
		state, ok := s.Virtio[t.Name()]
		if !ok {
			return fmt.Errorf("virtio: %s is missing", t.Name())
		}
		if err := t.Restore(state); err != nil {
			return fmt.Errorf("%s: %w", t.Name(), err)
		}
	}
	return nil
}

// restoreChips restores what KVM has of a machine besides its processors. The clock goes
// on as if the machine had run all the time.
func (m *Machine) restoreChips(s ChipsState, now time.Time) error {
	for _, chip := range []struct {
		id   kvm.IRQChip
		name string
		data []byte
	}{{kvm.PICMaster, "pics", s.PICs[0]}, {kvm.PICSlave, "pics", s.PICs[1]}, {kvm.IOAPIC, "ioapic", s.IOAPIC}} {
		state := kvm.IRQChipState{Chip: chip.id}
		if len(chip.data) != len(state.Data) {
			return fmt.Errorf("chips: %s: %d bytes instead of %d", chip.name, len(chip.data), len(state.Data))
		}
		copy(state.Data[:], chip.data)
		if err := m.vm.SetIRQChip(state); err != nil {
			return err
		}
	}
	if s.PIT != nil {
		if err := m.timer.restore(*s.PIT); err != nil {
			return err
		}
	}
	clock := kvm.ClockData{Clock: s.Clock.Clock + elapsed(int64(s.Clock.Realtime), now)}
	return m.vm.SetClock(clock)
}

// elapsed is the time since a moment of the host's clock, both in nanoseconds; 0 when the
// clock has been set back.
func elapsed(since int64, now time.Time) uint64 { return uint64(max(now.UnixNano()-since, 0)) }

// restore sets all of a vCPU. CPUID has been set: KVM knows some registers only with it.
// The APIC base and mode are special registers, and so these come before the local APIC;
// its timer's mode decides whether the deadline can be set, which is the last of the
// model-specific registers; and events come last, as they were read last.
func (c *cpu) restore(s *ProcessorState, xstate int) error {
	v := c.vcpu
	var lapic kvm.LAPIC
	var xcrs kvm.XCRs
	switch {
	case len(s.XState) != xstate:
		return fmt.Errorf("vcpu %d: xstate: %d bytes, and this host has %d", v.ID, len(s.XState), xstate)
	case len(s.LAPIC) != len(lapic.Regs):
		return fmt.Errorf("vcpu %d: lapic: %d bytes instead of %d", v.ID, len(s.LAPIC), len(lapic.Regs))
	case len(s.XCRs) > len(xcrs.Regs):
		return fmt.Errorf("vcpu %d: xcrs: %d are too many", v.ID, len(s.XCRs))
	}
	copy(lapic.Regs[:], s.LAPIC)
	xcrs.N = uint32(copy(xcrs.Regs[:], s.XCRs))
	msrs := slices.DeleteFunc(slices.Clone(s.MSRs), func(e kvm.MSREntry) bool { return e.Index == msrTSC })
	slices.SortStableFunc(msrs, func(a, b kvm.MSREntry) int { return msrRank(a.Index) - msrRank(b.Index) })
	for _, set := range []func() error{
		func() error { return v.SetMPState(s.MP) },
		func() error { return v.SetRegs(s.Regs) },
		func() error { return v.SetSregs(s.Sregs) },
		func() error {
			if xcrs.N == 0 { // a processor without XSAVE
				return nil
			}
			return v.SetXCRs(xcrs)
		},
		func() error { return v.SetXState(s.XState) },
		func() error { return v.SetDebugRegs(s.Debug) },
		func() error { return v.SetLAPIC(lapic) },
		func() error { return v.RestoreMSRs(msrs) },
		func() error { return v.SetEvents(s.Events) },
	} {
		if err := set(); err != nil {
			return err
		}
	}
	c.resumed()
	return nil
}

// msrRank orders registers: those come later that depend on others.
func msrRank(index uint32) int {
	if index == msrTSCDeadline {
		return 1
	}
	return 0
}

// restoreTSC has the time-stamp counters go on as if the machine had run all the time,
// each as far from the first as it was.
func (m *Machine) restoreTSC(saved []ProcessorState, now time.Time) error {
	target := func(s *ProcessorState) uint64 {
		ticks := float64(s.TSCKHz) * float64(elapsed(s.TSCTime, now)) / 1e6
		return s.TSC + uint64(ticks)
	}
	first := target(&saved[0])
	for i, c := range m.cpus {
		tsc := target(&saved[i])
		if off := int64(tsc - first); off > -apart && off < apart {
			tsc = first // they were read one after the other
		}
		if err := c.setTSC(tsc); err != nil {
			return err
		}
	}
	return nil
}

// apart is how far two counters may seem to be apart that are not: a second of a
// processor of a gigahertz. No guest sets them apart by less.
const apart = 1_000_000_000

// setTSC sets the time-stamp counter. By its register, KVM takes a value that is near
// what another vCPU has for the wish to be the same, which is what is wanted here, too.
func (c *cpu) setTSC(tsc uint64) error {
	return c.vcpu.SetMSRs([]kvm.MSREntry{{Index: msrTSC, Data: tsc}})
}

// checkProcessors is an error when this host cannot run a guest as it was.
func checkProcessors(saved []ProcessorState, count int, supported []kvm.CPUIDEntry) error {
	if len(saved) != count {
		return fmt.Errorf("processors: there are %d, and the machine has %d", len(saved), count)
	}
	for i := range saved {
		if lost := cpuid.Missing(leaves(saved[i].CPUID), leaves(supported)); len(lost) > 0 {
			return fmt.Errorf("the guest uses features of its processor that this host does not have: %s; restore it on a host like the one where it was saved", strings.Join(lost, ", "))
		}
	}
	return nil
}

// restoreCPUID gives a vCPU the processor that its guest knows.
func (c *cpu) restoreCPUID(s *ProcessorState, scaling bool) error {
	if err := c.setCPUID(s.CPUID); err != nil {
		return err
	}
	khz, err := c.vcpu.TSCKHz()
	if err != nil || s.TSCKHz == 0 || near(khz, s.TSCKHz) {
		return nil
	}
	if !scaling {
		return fmt.Errorf("the guest's time-stamp counter runs at %d kHz, this host's at %d, and its processor cannot scale it; restore it on a host like the one where it was saved", s.TSCKHz, khz)
	}
	return c.vcpu.SetTSCKHz(s.TSCKHz)
}

// near reports whether two frequencies are the same but for what their measurement
// errs by: KVM's own limit is 250 in a million.
func near(a, b uint32) bool {
	const perMillion = 250
	return max(a, b)-min(a, b) <= uint32(uint64(b)*perMillion/1_000_000)
}

// Features are those of the processor that the guest has been told of, by name: a host
// where it is restored must have them.
func (s *Saved) Features() []string {
	if len(s.State.Processors) == 0 {
		return nil
	}
	return cpuid.Missing(leaves(s.State.Processors[0].CPUID), nil)
}
