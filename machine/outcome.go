package machine

import "fmt"

// Outcome is how a machine ended.
type Outcome struct {
	Kind Kind
	// Value is what the guest wrote to the debug-exit port.
	Value uint32
	// Crash is set with Kind Crashed.
	Crash *Crash
}

// Kind is the kind of an Outcome.
type Kind uint8

// The ways a machine ends.
const (
	// Stopped: the context of Run was cancelled.
	Stopped Kind = iota
	// PoweredOff: the guest switched the machine off.
	PoweredOff
	// Reset: the guest asked for a reset.
	Reset
	// DebugExit: the guest wrote to the debug-exit port.
	DebugExit
	// Crashed: the guest cannot go on.
	Crashed
)

var kindNames = [...]string{"stopped", "power-off", "reset", "debug-exit", "crash"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("outcome %d", k)
}
