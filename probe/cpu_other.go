//go:build !amd64

package probe

import (
	"time"

	"vmm/kvm"
)

// Hit is a processor at a probe.
type Hit struct {
	VCPU  *kvm.VCPU
	Probe *Probe
	Time  time.Time
}

// CPU is a vCPU as probes see it. This architecture has no probes yet.
type CPU struct{}

// CPU returns the probes' view of a vCPU.
func (s *Set) CPU(*kvm.VCPU) *CPU { return &CPU{} }

// Prepare comes before each Run.
func (c *CPU) Prepare() error { return nil }

// Port comes after a write to PortNumber.
func (c *CPU) Port(time.Time) (bool, error) { return false, nil }

// Debug comes after an exit for debugging.
func (c *CPU) Debug(kvm.Exit) error { return nil }

// Accessed comes after an access to a port or to memory has been served.
func (c *CPU) Accessed() error { return nil }

// Step has f called after the next instruction.
func (c *CPU) Step(func(*Hit)) {}

// Stop comes after the last Run.
func (c *CPU) Stop() {}
