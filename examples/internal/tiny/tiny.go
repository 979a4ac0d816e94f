//go:build amd64

// Package tiny is what example 01 does step by step, for the examples that
// follow: a VM with a little memory from address 0 on, a program in it, and
// processors to run it.
package tiny

import (
	"errors"
	"fmt"
	"os"

	"vmm/kvm"
	"vmm/memory"
)

const (
	// MemorySize is the size of the guest's memory, in bytes.
	MemorySize = 4 << 20
	// LoadAddr is where the program lies, and begins.
	LoadAddr = 0x1000
	// StackTop is where its stack begins, which grows down.
	StackTop = 0x9000
)

// Guest-physical addresses that KVM wants for itself on Intel hosts. KVM api.rst
// §4.36, §4.40.
const (
	identityMapAddr = 0xfffb_c000
	tssAddr         = 0xfffb_d000
)

// VM is a virtual machine.
type VM struct {
	*kvm.VM
	// Memory is the guest's memory, and RAM the bytes of it.
	Memory *memory.Guest
	RAM    []byte
	// CPUs are its processors. They are in real mode to begin with, and the
	// first is at LoadAddr.
	CPUs []*kvm.VCPU

	system *kvm.System
}

// Options are what not every example needs.
type Options struct {
	CPUs       int  // number of processors; 0 for one
	Interrupts bool // interrupt controllers, in the kernel
	DirtyLog   bool // have KVM note which pages are written
}

// New makes a VM with a program in it.
func New(program []byte, o Options) (_ *VM, err error) {
	m := &VM{}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.system, err = kvm.Open(); err != nil {
		return nil, err
	}
	if m.VM, err = m.system.CreateVM(); err != nil {
		return nil, err
	}
	if err := m.SetIdentityMapAddr(identityMapAddr); err != nil {
		return nil, err
	}
	if err := m.SetTSSAddr(tssAddr); err != nil {
		return nil, err
	}
	if m.Memory, err = memory.New([]memory.Range{{Start: 0, Size: MemorySize}}, memory.Options{}); err != nil {
		return nil, err
	}
	m.RAM = m.Memory.Regions()[0].Host()
	var flags kvm.MemoryFlags
	if o.DirtyLog {
		flags = kvm.MemoryLogDirty
	}
	if err := m.SetMemory(0, flags, 0, m.RAM); err != nil {
		return nil, err
	}
	copy(m.RAM[LoadAddr:], program)
	if o.Interrupts {
		if err := m.CreateIRQChip(); err != nil {
			return nil, err
		}
	}
	return m, m.addCPUs(max(o.CPUs, 1))
}

func (m *VM) addCPUs(n int) error {
	cpuid, err := m.system.SupportedCPUID()
	if err != nil {
		return err
	}
	for id := range n {
		c, err := m.CreateVCPU(id)
		if err != nil {
			return err
		}
		m.CPUs = append(m.CPUs, c)
		if err := c.SetCPUID(cpuid); err != nil {
			return err
		}
	}
	s, err := m.CPUs[0].Sregs()
	if err != nil {
		return err
	}
	s.CS.Base, s.CS.Selector = 0, 0
	if err := m.CPUs[0].SetSregs(s); err != nil {
		return err
	}
	return m.CPUs[0].SetRegs(kvm.Regs{RIP: LoadAddr, RSP: StackTop, RFLAGS: 1 << 1})
}

// Close lets go of the VM. No processor may be running.
func (m *VM) Close() error {
	var errs []error
	for _, c := range m.CPUs {
		errs = append(errs, c.Close())
	}
	if m.Memory != nil {
		errs = append(errs, m.Memory.Close())
	}
	if m.VM != nil {
		errs = append(errs, m.VM.Close())
	}
	if m.system != nil {
		errs = append(errs, m.system.Close())
	}
	return errors.Join(errs...)
}

// Run runs a processor, and calls serve with each exit, until serve says that it
// is done.
func Run(c *kvm.VCPU, serve func(kvm.Exit) (done bool, err error)) error {
	c.LockThread()
	for {
		exit, err := c.Run()
		if err != nil {
			return err
		}
		if exit.Reason == kvm.ExitInterrupted { // a signal of Go's own, say
			c.ClearKick()
			continue
		}
		done, err := serve(exit)
		if done || err != nil {
			return err
		}
	}
}

// Unexpected is the error for an exit that a program has no answer to.
func Unexpected(exit kvm.Exit) error {
	return fmt.Errorf("the guest came back with an unexpected exit: %v", exit.Reason)
}

// Main runs an example and ends the process.
func Main(run func() error) {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
