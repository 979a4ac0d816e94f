package trace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// chromeEvent is an event of the Trace Event Format, which Perfetto and Chrome's
// about:tracing read. Times are in microseconds.
type chromeEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Time     float64        `json:"ts"`
	Duration *float64       `json:"dur,omitempty"`
	PID      int            `json:"pid"`
	TID      int            `json:"tid"`
	ID       string         `json:"id,omitempty"`
	Scope    string         `json:"s,omitempty"`
	Args     map[string]any `json:"args,omitempty"`
}

// Tracks of the picture: one for each vCPU, and one for each device.
const (
	pidCPUs    = 1
	pidDevices = 2
)

// chrome writes events as a JSON array, which need not be closed: a trace of a
// machine that died can be looked at all the same.
type chrome struct {
	begun   bool
	threads map[string]int // numbers of devices' tracks
	cpus    map[int]bool
}

func (c *chrome) append(b *bytes.Buffer, e *Event) error {
	if !c.begun {
		c.begun = true
		c.threads, c.cpus = map[string]int{}, map[int]bool{}
		b.WriteString("[\n")
		for i, name := range []string{"processors", "devices"} {
			if err := c.put(b, chromeEvent{Name: "process_name", Phase: "M", PID: pidCPUs + i, Args: map[string]any{"name": name}}); err != nil {
				return err
			}
		}
	}
	for _, event := range c.events(e) {
		if err := c.put(b, event); err != nil {
			return err
		}
	}
	return nil
}

func (c *chrome) put(b *bytes.Buffer, e chromeEvent) error {
	text, err := json.Marshal(e)
	b.Write(text)
	b.WriteString(",\n")
	return err
}

// end closes the array.
func (c *chrome) end(b *bytes.Buffer) {
	if c.begun {
		b.WriteString("{}]\n")
	}
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }

// events are the pieces of the picture that an event adds.
func (c *chrome) events(e *Event) []chromeEvent {
	switch {
	case e.VCPU != nil:
		return c.exit(e)
	case e.Lost > 0:
		return []chromeEvent{{Name: fmt.Sprintf("%d records lost", e.Lost), Phase: "i", Time: micros(e.Time), PID: pidDevices, Scope: "g"}}
	}
	events, tid := c.track(e.Device)
	out := chromeEvent{Name: e.Kind, Category: e.Kind, Phase: "i", Scope: "t", Time: micros(e.Time), PID: pidDevices, TID: tid, Args: arguments(e)}
	switch {
	case e.Kind == Interrupt.String() && e.Level != "":
		out.Name = fmt.Sprintf("GSI %d %s", *e.GSI, e.Level)
	case e.Kind == Interrupt.String():
		out.Name = "message: " + e.Meaning
	case e.Kind == Doorbell.String():
		out.Name = fmt.Sprintf("doorbell of queue %d", *e.Queue)
	default:
		// A request is a span of its own: they overlap.
		out.Phase, out.Scope = "b", ""
		if e.Kind == Push.String() {
			out.Phase = "e"
		}
		out.Category = "request"
		out.Name = fmt.Sprintf("%s queue %d", e.Device, *e.Queue)
		out.ID = fmt.Sprintf("%s.%d.%d", e.Device, *e.Queue, *e.Head)
	}
	return append(events, out)
}

// exit is the time in the guest and then the time in vmm.
func (c *chrome) exit(e *Event) []chromeEvent {
	var events []chromeEvent
	cpu := *e.VCPU
	if !c.cpus[cpu] {
		c.cpus[cpu] = true
		events = append(events, chromeEvent{Name: "thread_name", Phase: "M", PID: pidCPUs, TID: cpu, Args: map[string]any{"name": fmt.Sprintf("vCPU %d", cpu)}})
	}
	guest, vmm := micros(e.Guest), micros(e.VMM)
	name := e.Reason
	if e.Op != "" {
		name = strings.TrimSpace(e.Device + " " + e.Register)
		if name == "" {
			name = "no device"
		}
	}
	return append(events,
		chromeEvent{Name: "guest", Category: "guest", Phase: "X", Time: micros(e.Time) - guest, Duration: &guest, PID: pidCPUs, TID: cpu},
		chromeEvent{Name: name, Category: "exit", Phase: "X", Time: micros(e.Time), Duration: &vmm, PID: pidCPUs, TID: cpu, Args: arguments(e)})
}

// track is the number of a device's track, and what introduces it.
func (c *chrome) track(device string) ([]chromeEvent, int) {
	if tid, ok := c.threads[device]; ok {
		return nil, tid
	}
	tid := len(c.threads) + 1
	c.threads[device] = tid
	return []chromeEvent{{Name: "thread_name", Phase: "M", PID: pidDevices, TID: tid, Args: map[string]any{"name": device}}}, tid
}

// arguments are what is shown of an event when it is chosen.
func arguments(e *Event) map[string]any {
	args := map[string]any{}
	add := func(key string, value string) {
		if value != "" {
			args[key] = value
		}
	}
	add("reason", e.Reason)
	add("instruction", e.Insn)
	add("symbol", e.Symbol)
	add("meaning", e.Meaning)
	if e.RIP != nil {
		add("rip", e.RIP.String())
	}
	if e.Op != "" {
		add("access", accessText(e))
	}
	if e.Head != nil {
		args["chain"] = *e.Head
		args["readable"], args["writable"], args["written"] = e.Readable, e.Writable, e.Written
	}
	return args
}
