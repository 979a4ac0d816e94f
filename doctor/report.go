// Package doctor finds out whether a host can run virtual machines, and how
// well: by looking, and by running tiny guests.
package doctor

import (
	"fmt"
	"io"
	"strings"

	"vmm/kvm"
)

// Report is what there is to know of a host.
type Report struct {
	// OK: machines can be run, be it slowly.
	OK bool `json:"ok"`
	// Problem says what is wrong, and Fix what to do about it.
	Problem string `json:"problem,omitempty"`
	Fix     string `json:"fix,omitempty"`
	// KernelModeNative: a guest's kernel runs on the processor, and is not
	// interpreted. Without it Linux does not boot in reasonable time.
	KernelModeNative bool `json:"kernel_mode_native"`

	Host         Host         `json:"host"`
	APIVersion   int          `json:"api_version"`
	Capabilities []Capability `json:"capabilities"`
	Limits       Limits       `json:"limits"`
	Probes       Probes       `json:"probes"`
	Speed        Speed        `json:"speed"`
	Sandbox      Sandbox      `json:"sandbox"`
}

// Sandbox is what the sandbox around vmm can be on this host.
type Sandbox struct {
	Whole bool `json:"whole"` // all of its layers
	// Seccomp: there are filters of system calls. Landlock is the version of the
	// rules about files; 0 for none.
	Seccomp  bool `json:"seccomp"`
	Landlock int  `json:"landlock"`
	// Missing says which layers are missing, and why; Notes what others lack.
	Missing []string `json:"missing,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// Host is the machine and its KVM module.
type Host struct {
	CPU        string `json:"cpu"`
	Nested     bool   `json:"nested"` // it is a virtual machine itself
	Hypervisor string `json:"hypervisor,omitempty"`
	Module     string `json:"module"` // kvm_intel, kvm_amd, ... or "unknown"
	Kernel     string `json:"kernel"`
}

// Capability is an optional part of the KVM interface.
type Capability struct {
	Name   string `json:"name"`
	Value  int    `json:"value"` // 0: missing
	Needed bool   `json:"needed"`
}

// Limits bound the machines that this host can run.
type Limits struct {
	RecommendedVCPUs int    `json:"recommended_vcpus"`
	MaxVCPUs         int    `json:"max_vcpus"`
	MemorySlots      int    `json:"memory_slots"`
	MemoryBytes      uint64 `json:"memory_bytes"` // of the host
}

// Probes are the ways to stop a guest at an instruction, and whether they
// really do on this host.
type Probes struct {
	HardwareBreakpoint bool `json:"hardware_breakpoint"`
	Watchpoint         bool `json:"watchpoint"`
	SoftwareBreakpoint bool `json:"software_breakpoint"`
	SingleStep         bool `json:"single_step"`
}

// Speed is measured.
type Speed struct {
	ExitNanoseconds float64 `json:"exit_ns"`     // from guest to vmm and back
	KernelMIPS      float64 `json:"kernel_mips"` // millions of instructions a second, CPL 0
	UserMIPS        float64 `json:"user_mips"`   // the same, CPL 3
}

// capabilities are what vmm uses, and whether it can do without.
var capabilities = []struct {
	cap    kvm.Cap
	needed bool
}{
	{kvm.CapUserMemory, true},
	{kvm.CapIRQChip, true},
	{kvm.CapPIT2, true},
	{kvm.CapSetTSSAddr, true},
	{kvm.CapSetIdentityMapAddr, true},
	{kvm.CapExtCPUID, true},
	{kvm.CapImmediateExit, true},
	{kvm.CapIRQFD, false},
	{kvm.CapIOEventFD, false},
	{kvm.CapIRQRouting, false},
	{kvm.CapSignalMSI, false},
	{kvm.CapMPState, false},
	{kvm.CapVCPUEvents, false},
	{kvm.CapXSave, false},
	{kvm.CapXCRs, false},
	{kvm.CapDebugRegs, false},
	{kvm.CapAdjustClock, false},
	{kvm.CapSetGuestDebug, false},
	{kvm.CapGetTSCKHz, false},
	{kvm.CapTSCControl, false},
	{kvm.CapTSCDeadlineTimer, false},
}

// WriteTo writes the report for a person to read.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-18s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("processor", "%s", r.Host.CPU)
	where := "bare metal"
	if r.Host.Nested {
		where = "a virtual machine"
		if r.Host.Hypervisor != "" {
			where += " (" + r.Host.Hypervisor + ")"
		}
	}
	line("this host is", "%s", where)
	line("kernel", "%s", r.Host.Kernel)
	line("KVM module", "%s", r.Host.Module)
	r.Sandbox.write(line)
	if r.APIVersion != 0 {
		line("/dev/kvm", "version %d of the interface", r.APIVersion)
		r.writeDetails(line)
	}
	switch {
	case r.Problem == "":
		line("verdict", "this host runs virtual machines at full speed")
	case r.OK:
		line("verdict", "this host runs virtual machines, but: %s", r.Problem)
	default:
		line("verdict", "this host cannot run virtual machines: %s", r.Problem)
	}
	if r.Fix != "" {
		line("what to do", "%s", r.Fix)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (r *Report) writeDetails(line func(name, format string, args ...any)) {
	var missing, present []string
	for _, c := range r.Capabilities {
		if c.Value == 0 {
			missing = append(missing, c.Name)
		} else {
			present = append(present, c.Name)
		}
	}
	line("capabilities", "%d of %d that vmm uses", len(present), len(r.Capabilities))
	if len(missing) > 0 {
		line("  missing", "%s", strings.Join(missing, " "))
	}
	line("limits", "%d vCPUs (%d recommended), %d memory slots, %d MiB of host memory",
		r.Limits.MaxVCPUs, r.Limits.RecommendedVCPUs, r.Limits.MemorySlots, r.Limits.MemoryBytes>>20)
	works := map[bool]string{true: "works", false: "does not fire"}
	line("debug probes", "hardware breakpoint %s, watchpoint %s, software breakpoint %s, single-step %s",
		works[r.Probes.HardwareBreakpoint], works[r.Probes.Watchpoint], works[r.Probes.SoftwareBreakpoint], works[r.Probes.SingleStep])
	line("an exit takes", "%.2f µs", r.Speed.ExitNanoseconds/1e3)
	line("kernel-mode code", "%.1f million instructions a second", r.Speed.KernelMIPS)
	line("user-mode code", "%.1f million instructions a second", r.Speed.UserMIPS)
}
