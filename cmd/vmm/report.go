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
	Outcome string  `json:"outcome"`
	Status  int     `json:"status"` // exit status of vmm
	Message string  `json:"message,omitempty"`
	Seconds float64 `json:"seconds"` // from the start of vmm
	// When the guest was ready, and wrote to the boot timer: from exec of vmm.
	ReadySeconds     *float64       `json:"ready_seconds,omitempty"`
	BootTimerSeconds *float64       `json:"boot_timer_seconds,omitempty"`
	Crash            *machine.Crash `json:"crash,omitempty"`
	// Silent is set for a guest that wrote nothing, and Host for one for which the
	// host is too slow: what is wrong with it, and what to do.
	Silent *silence `json:"silent,omitempty"`
	Host   string   `json:"host,omitempty"`
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

// lost notes an error that came when the guest had ended already: what was to
// be kept of the run is not.
func (r *report) lost(err error) {
	switch {
	case err == nil:
	case r.Message == "":
		r.Message = err.Error()
	default:
		r.Message += "; " + err.Error()
	}
	if err != nil && r.Status == cli.OK {
		r.Status = cli.Failed
	}
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
	if s := r.ReadySeconds; s != nil {
		fmt.Fprintf(w, "vmm: ready after %v\n", duration(*s))
	}
	if s := r.BootTimerSeconds; s != nil {
		fmt.Fprintf(w, "vmm: the boot timer was written to after %v\n", duration(*s))
	}
	switch {
	case r.Crash != nil:
		fmt.Fprint(w, "vmm: ")
		_, _ = r.Crash.WriteTo(w)
		if r.Message != r.Crash.Reason {
			fmt.Fprintf(w, "vmm: %s\n", r.Message)
		}
	case r.Outcome == "timeout":
		fmt.Fprintf(w, "vmm: %s after %v\n", r.Message, time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	case r.Message != "":
		fmt.Fprintf(w, "vmm: %s\n", r.Message)
	}
	if r.Silent != nil {
		r.Silent.print(w)
	}
	if r.Host != "" {
		fmt.Fprintf(w, "vmm: %s\n", r.Host)
	}
}
