package machine

import (
	"slices"
	"time"

	"vmm/kvm"
)

// ProcessorState is all that KVM keeps of a vCPU.
type ProcessorState struct {
	CPUID  []kvm.CPUIDEntry `json:"cpuid"`
	TSCKHz uint32           `json:"tsc_khz"` // 0 where KVM does not tell
	MP     kvm.MPState      `json:"mp_state"`
	Regs   kvm.Regs         `json:"registers"`
	Sregs  kvm.Sregs        `json:"special_registers"`
	XState []byte           `json:"xstate"` // as XSAVE lays it out
	XCRs   []kvm.XCR        `json:"xcrs"`
	Debug  kvm.DebugRegs    `json:"debug_registers"`
	LAPIC  []byte           `json:"lapic"`
	MSRs   []kvm.MSREntry   `json:"msrs"`
	Events kvm.Events       `json:"events"`
	// TSC is the time-stamp counter at a moment, TSCTime, in nanoseconds of the
	// host's CLOCK_REALTIME.
	TSC     uint64 `json:"tsc"`
	TSCTime int64  `json:"tsc_time"`
}

// Registers whose order matters.
const (
	msrTSC         = 0x10
	msrTSCDeadline = 0x6e0
)

// save reads all of a vCPU, whose goroutine this is. The MP state comes first: to read
// it has KVM act on what is pending at the local APIC. Events come last: whatever is
// read before may change them. Only then does what is read belong together.
func (c *cpu) save(msrs []uint32, xstate int) (s ProcessorState, err error) {
	v := c.vcpu
	if s.MP, err = v.MPState(); err != nil {
		return s, err
	}
	// As it was set: what KVM makes of it while the guest runs is no part of it.
	s.CPUID = c.cpuid
	if khz, err := v.TSCKHz(); err == nil {
		s.TSCKHz = khz
	}
	if s.Regs, err = v.Regs(); err != nil {
		return s, err
	}
	if s.Sregs, err = v.Sregs(); err != nil {
		return s, err
	}
	if s.XState, err = v.XState(xstate); err != nil {
		return s, err
	}
	xcrs, err := v.XCRs()
	if err != nil {
		return s, err
	}
	s.XCRs = xcrs.Regs[:min(int(xcrs.N), len(xcrs.Regs))]
	if s.Debug, err = v.DebugRegs(); err != nil {
		return s, err
	}
	lapic, err := v.LAPIC()
	if err != nil {
		return s, err
	}
	s.LAPIC = lapic.Regs[:]
	if s.MSRs, err = v.ReadableMSRs(msrs); err != nil {
		return s, err
	}
	s.TSCTime = time.Now().UnixNano()
	s.MSRs = slices.DeleteFunc(s.MSRs, func(e kvm.MSREntry) bool {
		if e.Index == msrTSC {
			s.TSC = e.Data
		}
		return e.Index == msrTSC
	})
	s.Events, err = v.Events()
	return s, err
}
