package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"vmm/cmd/internal/cli"
	"vmm/machine"
	"vmm/untrusted"
)

// report is how a run ended, as "vmm boot --json" prints it.
type report struct {
	// Outcome is one of power-off, reset, debug-exit, crash, timeout, signal,
	// quit and error.
	Outcome string  `json:"outcome"`
	Status  int     `json:"status"` // exit status of vmm
	Message string  `json:"message,omitempty"`
	Seconds float64 `json:"seconds"` // from the start of vmm
	// EndSeconds is how long the end has taken: from when somebody asked for it, or
	// the guest ended by itself, to this report.
	EndSeconds float64 `json:"end_seconds"`
	// When the guest was ready, and wrote to the boot timer: from exec of vmm.
	ReadySeconds     *float64       `json:"ready_seconds,omitempty"`
	BootTimerSeconds *float64       `json:"boot_timer_seconds,omitempty"`
	Crash            *machine.Crash `json:"crash,omitempty"`
	// Silent is set for a guest that wrote nothing, and Host for one for which the
	// host is too slow: what is wrong with it, and what to do.
	Silent *silence `json:"silent,omitempty"`
	Host   string   `json:"host,omitempty"`
	machine.Stats

	headline    string   // how it ended: Message without losses
	losses      []string // lines of lost
	besideGuest bool     // the guest may set the exit status
}

// Exit statuses under --debug-exit, where each odd one is the guest's to set:
// those of vmm's own are even then.
const (
	besideGuestFailed   = 4
	besideGuestCrashed  = 6
	besideGuestSignaled = 8
)

// newReport says how a run ended: the outcome and error of machine.Run, and
// the cause for which its context was cancelled, if it was. debugExit says whether
// the guest has a port that sets the status.
func newReport(o machine.Outcome, err, cause error, debugExit bool) *report {
	r := &report{besideGuest: debugExit}
	var sig signalError
	switch {
	case err != nil:
		r.Outcome, r.Status, r.Message = "error", r.ownStatus(cli.Failed), err.Error()
	case o.Kind == machine.Crashed:
		r.Outcome, r.Status, r.Message, r.Crash = o.Kind.String(), r.ownStatus(cli.Crashed), o.Crash.Reason, o.Crash
	case o.Kind == machine.DebugExit:
		// As QEMU: never 0, so that it cannot be taken for success.
		r.Outcome, r.Status = o.Kind.String(), int(uint8(o.Value<<1|1))
	case o.Kind != machine.Stopped:
		r.Outcome = o.Kind.String()
	case errors.Is(cause, errTimeout):
		r.Outcome, r.Status, r.Message = "timeout", cli.Timeout, "the time of --timeout ran out"
	case errors.Is(cause, errQuit):
		r.Outcome = "quit"
	case errors.As(cause, &sig):
		r.Outcome, r.Status, r.Message = "signal", r.ownStatus(128+int(sig.Signal)), sig.Error()
	default:
		r.Outcome, r.Status, r.Message = "error", r.ownStatus(cli.Failed), fmt.Sprint(cause)
	}
	r.headline = r.Message
	return r
}

// ownStatus is a status of vmm's own as it is under --debug-exit.
func (r *report) ownStatus(status int) int {
	switch {
	case !r.besideGuest:
		return status
	case status == cli.Failed:
		return besideGuestFailed
	case status == cli.Crashed:
		return besideGuestCrashed
	case status > 128:
		return besideGuestSignaled
	}
	return status
}

// lost notes an error that came when the guest had ended already: what was to
// be kept of the run is not, or something is still under way.
func (r *report) lost(err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) { // of errors.Join
		line = strings.TrimSuffix(line, "\n")
		r.losses = append(r.losses, line)
		if r.Message != "" {
			r.Message += "; "
		}
		r.Message += line
	}
	if r.Status == cli.OK {
		r.Status = r.ownStatus(cli.Failed)
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
		untrusted.Clean(r.Crash)
		fmt.Fprint(w, "vmm: ")
		_, _ = r.Crash.WriteTo(w)
	case r.Outcome == "timeout":
		fmt.Fprintf(w, "vmm: %s after %v\n", r.headline, time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	case r.headline != "":
		fmt.Fprintf(w, "vmm: %s\n", cli.Message(r.headline))
	}
	if r.Silent != nil {
		r.Silent.print(w)
	}
	if r.Host != "" {
		fmt.Fprintf(w, "vmm: %s\n", r.Host)
	}
	for _, line := range r.losses {
		fmt.Fprintf(w, "vmm: %s\n", line)
	}
}
