package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"vmm/cmd/internal/cli"
	"vmm/machine"
)

// report is how a run ended, as "vmm boot --json" prints it.
type report struct {
	// Outcome is one of power-off, reset, debug-exit, crash, timeout, signal,
	// quit and error.
	Outcome string         `json:"outcome"`
	Status  int            `json:"status"` // exit status of vmm
	Message string         `json:"message,omitempty"`
	Seconds float64        `json:"seconds"` // from the start of vmm
	Crash   *machine.Crash `json:"crash,omitempty"`
	machine.Stats
}

// newReport says how a run ended: the outcome and error of machine.Run, and
// the cause for which its context was cancelled, if it was.
func newReport(o machine.Outcome, err, cause error) *report {
	var sig signalError
	switch {
	case err != nil:
		return &report{Outcome: "error", Status: cli.Failed, Message: err.Error()}
	case o.Kind == machine.Crashed:
		return &report{Outcome: o.Kind.String(), Status: cli.Crashed, Message: o.Crash.Reason, Crash: o.Crash}
	case o.Kind == machine.DebugExit:
		// As QEMU: never 0, so that it cannot be taken for success.
		return &report{Outcome: o.Kind.String(), Status: int(uint8(o.Value<<1 | 1))}
	case o.Kind != machine.Stopped:
		return &report{Outcome: o.Kind.String()}
	case errors.Is(cause, errTimeout):
		return &report{Outcome: "timeout", Status: cli.Timeout, Message: "the time of --timeout ran out"}
	case errors.Is(cause, errQuit):
		return &report{Outcome: "quit"}
	case errors.As(cause, &sig):
		return &report{Outcome: "signal", Status: 128 + int(sig.Signal), Message: sig.Error()}
	}
	return &report{Outcome: "error", Status: cli.Failed, Message: cause.Error()}
}

// print writes the report: as JSON, or for a person and then only what is not
// as it should be.
func (r *report) print(w io.Writer, asJSON bool) {
	if asJSON {
		line, err := json.Marshal(r)
		if err != nil {
			fmt.Fprintf(w, "vmm: %v\n", err)
			return
		}
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	switch {
	case r.Crash != nil:
		fmt.Fprint(w, "vmm: ")
		_, _ = r.Crash.WriteTo(w)
	case r.Outcome == "timeout":
		fmt.Fprintf(w, "vmm: %s after %v\n", r.Message, time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	case r.Message != "":
		fmt.Fprintf(w, "vmm: %s\n", r.Message)
	}
}
