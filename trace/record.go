package trace

// Kind is the kind of a Record.
type Kind uint8

// The kinds.
const (
	// Exit: a vCPU came back from the guest, and went in again.
	Exit Kind = iota
	// Interrupt: a device raised or lowered an interrupt.
	Interrupt
	// Doorbell: the driver rang for a queue, and the device's worker woke.
	Doorbell
	// Pop: a device took a request from a queue.
	Pop
	// Push: a device gave a request back to the driver.
	Push
	// Lost: records were dropped, for the buffer was full.
	Lost
)

var kindNames = [...]string{"exit", "interrupt", "doorbell", "pop", "push", "lost"}

func (k Kind) String() string { return kindNames[k] }

// Access is the space that an exit's access goes to.
type Access uint8

// The spaces.
const (
	NoAccess Access = iota
	Port
	Memory
)

// Meaner says what a value of a register means. It is asked by the Recorder's
// own goroutine.
type Meaner interface {
	Meaning(register string, write bool, value uint64) string
}

// Record is what happened, as raw as it can be. Which fields count depends on
// its Kind.
type Record struct {
	Kind Kind
	// Time is when it happened, in nanoseconds since the Recorder was made;
	// that of an Exit is when the guest was left.
	Time int64
	// Device is what it happened to: "COM1", "virtio-blk0".
	Device string

	// Of an Exit:
	VCPU          int
	Reason        string
	Entered, Done int64 // when the guest was entered before, and Time plus what it took to serve the exit
	Access        Access
	Write         bool
	Size          uint8  // of an access, in bytes
	Count         uint32 // of accesses; more than one for a string instruction
	Addr          uint64 // the port, or the guest-physical address
	Value         uint64 // the first access's
	Register      string
	Meaner        Meaner // nil for none
	Registers     Registers
	Code          Code

	// Of an Interrupt: a level of a line (GSI), a pulse of one, or a message.
	GSI     uint32
	Level   Level
	Message bool
	MSIAddr uint64
	MSIData uint32

	// Of Doorbell, Pop and Push:
	Queue              int
	Head               uint16 // the chain's first descriptor
	Readable, Writable uint64 // bytes, of a Pop
	Written            uint32 // bytes, of a Push

	// Of Lost:
	Lost uint64
}

// Level is what an interrupt line does.
type Level uint8

// What a line does.
const (
	Lower Level = iota
	Raise
	Pulse
)

// Registers are the general-purpose registers at an exit, in the order in which
// instructions encode them (RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15),
// and RIP. Intel SDM vol. 2, table 3-1. Valid is false where they are not known.
type Registers struct {
	GPR   [16]uint64
	RIP   uint64
	Valid bool
}

// Code are the bytes around RIP at an exit: KVM leaves RIP at the instruction
// that exits, or after it.
type Code struct {
	Bytes  [MaxCode]byte
	Before uint8 // how many lie before RIP
	Len    uint8
	Mode   uint8 // bits of the code segment: 16, 32 or 64
}

const (
	// maxInsn is the length of the longest instruction. Intel SDM vol. 2
	// §2.3.11.
	maxInsn = 15
	// MaxCode is the longest Code: an instruction before RIP, and one after.
	MaxCode = 2 * maxInsn
)
