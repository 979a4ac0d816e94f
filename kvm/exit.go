package kvm

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

var le = binary.LittleEndian

// Offsets into struct kvm_run, from <linux/kvm.h>. A test compares them with
// the C header's.
const (
	runExitReason = 8
	runUnion      = 32 // where the members for each reason begin
	runSize       = 2352
)

// ExitReason says why the guest stopped running.
type ExitReason uint32

// Exit reasons, from <linux/kvm.h>. KVM api.rst §5.
const (
	ExitUnknown       ExitReason = 0
	ExitException     ExitReason = 1
	ExitIO            ExitReason = 2 // Exit.IO
	ExitHypercall     ExitReason = 3
	ExitDebug         ExitReason = 4 // Exit.Debug
	ExitHalt          ExitReason = 5 // only without interrupt controllers in the kernel
	ExitMMIO          ExitReason = 6 // Exit.MMIO
	ExitIRQWindow     ExitReason = 7
	ExitShutdown      ExitReason = 8 // a triple fault
	ExitFailEntry     ExitReason = 9 // Exit.FailEntry
	ExitInterrupted   ExitReason = 10
	ExitNMI           ExitReason = 16
	ExitInternalError ExitReason = 17 // Exit.InternalError
	ExitSystemEvent   ExitReason = 24
	ExitIOAPICEOI     ExitReason = 26
)

var exitNames = map[ExitReason]string{
	ExitUnknown:       "unknown",
	ExitException:     "exception",
	ExitIO:            "port I/O",
	ExitHypercall:     "hypercall",
	ExitDebug:         "debug",
	ExitHalt:          "halt",
	ExitMMIO:          "MMIO",
	ExitIRQWindow:     "interrupt window",
	ExitShutdown:      "shutdown (triple fault)",
	ExitFailEntry:     "failed entry",
	ExitInterrupted:   "interrupted",
	ExitNMI:           "NMI",
	ExitInternalError: "internal error",
	ExitSystemEvent:   "system event",
	ExitIOAPICEOI:     "I/O APIC EOI",
}

func (r ExitReason) String() string {
	if name, ok := exitNames[r]; ok {
		return name
	}
	return "exit reason " + itoa(uint64(r))
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// Exit is why Run returned. What its methods return lies in memory shared
// with the kernel and holds until the next Run.
type Exit struct {
	Reason ExitReason
	run    []byte
}

// IO is an access to a port by IN, OUT, INS or OUTS.
type IO struct {
	Port  uint16
	Write bool
	Size  int // of one access, in bytes: 1, 2 or 4
	// Data is Count accesses of Size bytes each, one after the other (more
	// than one with a REP prefix). For a read it is filled in before the
	// next Run.
	Data []byte
}

// IO decodes [ExitIO].
func (e Exit) IO() IO {
	u := e.run[runUnion:]
	size, count := int(u[1]), int(le.Uint32(u[4:]))
	off := le.Uint64(u[8:])
	return IO{
		Port:  le.Uint16(u[2:]),
		Write: u[0] == 1,
		Size:  size,
		Data:  e.run[off : off+uint64(size*count)],
	}
}

// MMIO is an access to a guest-physical address that no memory slot backs.
type MMIO struct {
	Addr  uint64
	Write bool
	// Data is 1 to 8 bytes. For a read it is filled in before the next Run.
	Data []byte
}

// MMIO decodes [ExitMMIO].
func (e Exit) MMIO() MMIO {
	u := e.run[runUnion:]
	n := min(le.Uint32(u[16:]), 8)
	return MMIO{Addr: le.Uint64(u), Write: u[20] != 0, Data: u[8 : 8+n]}
}

// FailEntry is the hardware's reason for not entering the guest: on Intel the
// VM-entry failure of SDM vol. 3 §27.7.
type FailEntry struct {
	Reason uint64
	CPU    uint32
}

// FailEntry decodes [ExitFailEntry].
func (e Exit) FailEntry() FailEntry {
	u := e.run[runUnion:]
	return FailEntry{Reason: le.Uint64(u), CPU: le.Uint32(u[8:])}
}

// InternalError is a failure inside KVM.
type InternalError struct {
	Suberror uint32
	Data     []uint64 // at most 16 words, meaning by Suberror
	// Insn holds the bytes of the instruction that KVM could not emulate,
	// where it tells.
	Insn []byte
}

// Suberrors of InternalError, from <linux/kvm.h>.
const (
	ErrorEmulation        = 1 // an instruction that KVM's emulator lacks
	ErrorSimultaneous     = 2 // an exception while delivering an exception
	ErrorDeliveryEvent    = 3 // an exit while delivering an event
	ErrorUnexpectedReason = 4 // an exit reason that KVM does not know
)

// InternalError decodes [ExitInternalError].
func (e Exit) InternalError() InternalError {
	u := e.run[runUnion:]
	err := InternalError{Suberror: le.Uint32(u)}
	n := min(le.Uint32(u[4:]), 16)
	for i := range n {
		err.Data = append(err.Data, le.Uint64(u[8+8*i:]))
	}
	// struct emulation_failure overlays the data: flags, size, 15 bytes.
	const hasInsn = 1
	if err.Suberror == ErrorEmulation && n >= 3 && err.Data[0]&hasInsn != 0 {
		err.Insn = append(err.Insn, u[17:17+min(u[16], 15)]...)
	}
	return err
}

func (e InternalError) Error() string {
	what := "suberror " + itoa(uint64(e.Suberror))
	switch e.Suberror {
	case ErrorEmulation:
		what = "it cannot emulate the instruction"
	case ErrorSimultaneous:
		what = "an exception while delivering an exception"
	case ErrorDeliveryEvent:
		what = "an exit while delivering an event"
	case ErrorUnexpectedReason:
		what = "an exit reason that it does not know"
	}
	if len(e.Insn) > 0 {
		what += fmt.Sprintf(" % x", e.Insn)
	}
	return "KVM internal error: " + what
}

// SystemEvent is a request of the guest to firmware that KVM passes on: one of
// the KVM_SYSTEM_EVENT numbers, such as 1 to shut down and 2 to reset.
func (e Exit) SystemEvent() uint32 { return le.Uint32(e.run[runUnion:]) }
