//go:build !amd64

package machine

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"vmm/kvm"
)

// Crash describes a guest that cannot go on.
type Crash struct {
	// Reason says what happened, in one line.
	Reason string `json:"reason"`
	// Unemulated says that KVM's emulator lacks the instruction.
	Unemulated bool `json:"unemulated,omitempty"`
}

// New says that this architecture is not supported.
func New(Config) (*Machine, error) {
	return nil, errArchitecture()
}

// KernelVirtual is the virtual address of a physical one in the kernel.
func (m *Machine) KernelVirtual(uint64) (uint64, bool) { return 0, false }

// PressPowerButton asks the guest to shut down.
func (m *Machine) PressPowerButton() error { return errArchitecture() }

// PressCtrlAltDel asks the guest to restart.
func (m *Machine) PressCtrlAltDel() error { return errArchitecture() }

func errArchitecture() error {
	return fmt.Errorf("vmm does not run machines on %s yet; use an x86-64 host", runtime.GOARCH)
}

func (c *cpu) report(_ *Machine, reason string) *Crash { return &Crash{Reason: reason} }

func (c *cpu) internalError(m *Machine, e kvm.InternalError) { c.crash(m, e.Error()) }

// Last is what a machine did last.
func (m *Machine) Last() Last { return Last{} }

func (c *cpu) resumed() {}

func (c *cpu) wantRegisters() {}

type known struct{}

func (c *cpu) note(kvm.Exit) {}

func (c *cpu) details(*Machine, kvm.Exit) {}

type codePlace struct{}

func (m *Machine) logProcessors() {}

// WriteTo writes the crash for a person to read.
func (c *Crash) WriteTo(w io.Writer) (int64, error) {
	n, err := fmt.Fprintf(w, "the guest crashed: %s\n", c.Reason)
	return int64(n), err
}

// watching is what the machine keeps for its timeline.
type watching struct{}

func (c *cpu) watchPort(*Machine, kvm.IO) (bool, error) { return false, nil }

func (c *cpu) sample(*Machine) error { return nil }

// SavedState is what has become of a machine that was saved.
type SavedState struct{}

// told is what a processor tells of itself.
type told struct{}

// pit is the timer of a PC.
type pit struct{}

// Save says that this architecture is not supported.
func (m *Machine) Save([]*os.File, io.ReaderAt) error { return errArchitecture() }

// Features says nothing here.
func (s *Saved) Features() []string { return nil }
