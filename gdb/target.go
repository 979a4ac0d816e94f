package gdb

// Target is what is debugged: a machine whose processors gdb sees as threads.
// The Server calls it from one goroutine at a time.
type Target interface {
	Processors
	Memory
	Breakpoints
	Execution
}

// Execution is how the target runs and stops.
type Execution interface {
	// Attach begins a session: all processors stop.
	Attach()
	// Detach ends it: breakpoints are removed, and all processors go on.
	Detach()
	// Halt stops all processors, and returns when they have stopped. It does
	// nothing to those that have.
	Halt()
	// Resume lets each processor do what actions says, an action for each. What
	// is in Stops then counts for nothing: who has stopped stops again.
	Resume(actions []Action) error
	// Stops has a value when a processor has stopped by itself. The others may
	// still run.
	Stops() <-chan Stop
	// Kill ends the machine, and the session.
	Kill()
}

// Processors are the target's processors, numbered from 0. They are only looked
// at while halted.
type Processors interface {
	Count() int
	// Describe says in a few words what a processor is doing.
	Describe(cpu int) string
	Registers(cpu int) (Registers, error)
	SetRegisters(cpu int, r Registers) error
}

// Memory is the target's memory by the linear addresses of a processor.
type Memory interface {
	// ReadMemory fills as much of p, from its start, as is mapped, and says
	// how much that was. An error is for when it was nothing.
	ReadMemory(cpu int, addr uint64, p []byte) (int, error)
	// WriteMemory writes all of p or fails.
	WriteMemory(cpu int, addr uint64, p []byte) error
}

// Breakpoints stop a processor that executes an instruction or, of the kinds for
// that, accesses memory.
type Breakpoints interface {
	// Insert puts a breakpoint in place. cpu is the processor whose page tables
	// its address is of.
	Insert(cpu int, b Breakpoint) error
	// Remove takes it away. It does not fail for one that is not there.
	Remove(b Breakpoint) error
}

// Kind is a kind of breakpoint. The numbers are those of the packets. GDB "z0
// packet" and following.
type Kind uint8

// The kinds.
const (
	Software Kind = iota
	Hardware
	WatchWrite
	WatchRead
	WatchAccess
)

// Breakpoint is a place to stop at.
type Breakpoint struct {
	Kind Kind
	Addr uint64
	// Size is the number of bytes that are watched.
	Size uint64
}

// Action is what a processor does when the target is resumed.
type Action uint8

// The actions.
const (
	Stay Action = iota // does not move
	Continue
	Step // executes one instruction
)

// Stop is why a processor stopped by itself.
type Stop struct {
	CPU    int
	Reason Reason
	// Addr is the address that was accessed, of a watchpoint.
	Addr uint64
}

// Reason is the reason of a Stop.
type Reason uint8

// The reasons.
const (
	Interrupted Reason = iota // it was asked to
	Stepped
	AtSoftware
	AtHardware
	AtWatchWrite
	AtWatchRead
	AtWatchAccess
)
