//go:build !amd64

package machine

import (
	"context"
	"sync/atomic"

	"vmm/boot/acpi"
	"vmm/boot/kallsyms"
	"vmm/cpuid"
	"vmm/paging"
)

func kvmAreas() []Area { return nil }
func kvmPorts() []Area { return nil }

// ACPI are the firmware's tables.
func (m *Machine) ACPI() ([]acpi.Found, error) { return nil, errArchitecture() }

// Translate walks a vCPU's page tables for a linear address.
func (m *Machine) Translate(int, uint64) (paging.Walk, error) {
	return paging.Walk{}, errArchitecture()
}

// Mappings calls f with what a vCPU's page tables map.
func (m *Machine) Mappings(int, func(paging.Range) bool) (paging.Mode, bool, error) {
	return 0, false, errArchitecture()
}

// Processor looks at a vCPU.
func (m *Machine) Processor(int) (Processor, error) { return Processor{}, errArchitecture() }

// ReadLinear reads memory at a linear address of a vCPU.
func (m *Machine) ReadLinear(int, uint64, []byte) (int, error) { return 0, errArchitecture() }

// ReadPhysical reads memory at a guest-physical address.
func (m *Machine) ReadPhysical(uint64, []byte) error { return errArchitecture() }

func (m *Machine) chips(int) ([]Shown, error) { return nil, errArchitecture() }

// CPUID is what CPUID says on a vCPU.
func (m *Machine) CPUID(int) ([]cpuid.Leaf, error) { return nil, errArchitecture() }

// SupportedCPUID is what KVM says that CPUID may say in a guest.
func SupportedCPUID() ([]cpuid.Leaf, error) { return nil, errArchitecture() }

// SupportedCPUID is what it said when the machine was made.
func (m *Machine) SupportedCPUID() []cpuid.Leaf { return m.supported }

// KernelSymbols are the symbols of the guest's Linux kernel.
func (m *Machine) KernelSymbols(context.Context) (*kallsyms.Table, error) {
	return nil, errArchitecture()
}

// Step has a vCPU of a paused machine execute one instruction.
func (m *Machine) Step(int) error { return errArchitecture() }

type standing struct{ stay, step atomic.Bool }
