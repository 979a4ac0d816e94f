//go:build !amd64

package machine

import "vmm/gdb"

// DebugAbility is what the host's KVM can do for a debugger.
type DebugAbility struct{ Hardware, Watch, Breakpoint bool }

// Debugger lets a debugger at the machine.
func (m *Machine) Debugger(DebugAbility, func()) gdb.Target { return nil }

// HoldForDebugger keeps the processors from their next instruction.
func (m *Machine) HoldForDebugger() {}
