// Package control lets other programs pause, resume, measure and end a running
// machine: requests and answers in JSON over a unix socket, a line each.
// docs/control.md describes them.
package control

import (
	"encoding/json"
	"os"
)

// Machine is what can be controlled and looked at. Its methods are called
// concurrently.
type Machine interface {
	Controls
	// Inspect answers what r asks for, in a form for JSON.
	Inspect(r Request) (any, error)
}

// Controls are what can be done to a machine.
type Controls interface {
	Pause()
	Resume()
	Stop()
	// Shutdown asks the guest to shut down, and Reboot to restart, which ends the
	// machine too.
	Shutdown() error
	Reboot() error
	Status() Status
	// SetBalloon sets how much memory the guest lends back, in bytes.
	SetBalloon(size uint64) error
	// SetLink plugs in the cable of a network card, or unplugs it. The first card
	// is number 0.
	SetLink(card int, up bool) error
	// Step has a vCPU of the paused machine execute one instruction.
	Step(vcpu int) error
	// Snapshot writes the machine to the files of a snapshot, and it goes on then,
	// unless it is paused.
	Snapshot(files []*os.File) error
	// Type sends text to the guest's console, as if it had been typed.
	Type(text string) error
}

// The commands.
const (
	Pause    = "pause"
	Resume   = "resume"
	Stop     = "stop"
	Shutdown = "shutdown"
	Reboot   = "reboot"
	ShowAll  = "status"
	Balloon  = "balloon"
	Link     = "link"
	Step     = "step"
	Type     = "type"
	Inspect  = "inspect"

	TakeSnapshot = "snapshot"
)

// Request asks for something.
type Request struct {
	Command string `json:"command"`
	// After is that of Stop: how long the guest has, in seconds, to shut down by
	// itself.
	After float64 `json:"after,omitempty"`
	// Size is that of Balloon, in bytes.
	Size *uint64 `json:"size,omitempty"`
	// Card and Up are those of Link.
	Card int   `json:"card,omitempty"`
	Up   *bool `json:"up,omitempty"`
	// Text is that of Type.
	Text string `json:"text,omitempty"`
	// What is that of Inspect: what to look at. CPU, also that of Step, and
	// what follows are those of some of it.
	What    string  `json:"what,omitempty"`
	CPU     int     `json:"vcpu,omitempty"`
	Address *uint64 `json:"address,omitempty"`
	Device  string  `json:"device,omitempty"`
	Queue   int     `json:"queue,omitempty"`
	From    uint64  `json:"from,omitempty"`
}

// Response is the answer to a Request: when there is no Error, it was done.
type Response struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"` // the answer to ShowAll
	// Result is the answer to Inspect. Its form depends on what was asked for.
	Result json.RawMessage `json:"result,omitempty"`
}

// Status is how a machine is doing.
type Status struct {
	State    string         `json:"state"` // "running" or "paused"
	PID      int            `json:"pid"`
	Seconds  float64        `json:"seconds"` // since vmm was started
	CPUs     int            `json:"cpus"`
	Memory   uint64         `json:"memory"`   // RAM of the guest, in bytes
	Resident uint64         `json:"resident"` // memory of vmm that is in use, the guest's included, in bytes
	Exits    uint64         `json:"exits"`    // from guest to vmm
	Balloon  *BalloonStatus `json:"balloon,omitempty"`
}

// BalloonStatus is the state of the balloon, sizes in bytes.
type BalloonStatus struct {
	Target uint64 `json:"target"` // what was asked for
	Actual uint64 `json:"actual"` // what the guest says is in it
	// Guest is how the guest says it uses its memory: "free_memory" and so
	// on, in bytes. It is missing when the guest does not answer.
	Guest map[string]uint64 `json:"guest,omitempty"`
}
