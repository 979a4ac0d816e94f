package timeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"vmm/untrusted"
)

// File is what a timeline is written as: JSON in Chrome's trace event format,
// which Perfetto opens, with the same facts for other programs under "vmm".
//
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU,
// "JSON Object Format": viewers ignore the names that they do not know.
type File struct {
	TraceEvents     []Event `json:"traceEvents"`
	DisplayTimeUnit string  `json:"displayTimeUnit"`
	VMM             Data    `json:"vmm"`
}

// Event is an event of Chrome's format. Times are microseconds.
type Event struct {
	Name  string            `json:"name"`
	Phase string            `json:"ph"` // X: complete, i: instant, M: metadata
	Time  float64           `json:"ts"`
	Took  float64           `json:"dur,omitempty"`
	PID   int               `json:"pid"`
	TID   int               `json:"tid"`
	Scope string            `json:"s,omitempty"`
	Args  map[string]string `json:"args,omitempty"`
}

// Data is a timeline. Times are nanoseconds after exec, and without the time
// that the timeline itself cost: that is told apart.
type Data struct {
	Version   int        `json:"version"` // of this format: 1
	Kernel    string     `json:"kernel"`
	Phases    []PhaseAt  `json:"phases"`
	Initcalls []Initcall `json:"initcalls"`
	Markers   []MarkerAt `json:"markers"`
	// CostNS is what the timeline cost in all, in Stops of the guest and before
	// it began.
	CostNS int64 `json:"cost_ns"`
	Stops  int   `json:"stops"`
	// Note says what is missing, and why.
	Note string `json:"note,omitempty"`
}

// PhaseAt is when a phase was reached.
type PhaseAt struct {
	Name Phase `json:"name"`
	NS   int64 `json:"ns"`
	// CostNS is what the timeline had cost by then: NS + CostNS is what the
	// clock said.
	CostNS int64  `json:"cost_ns"`
	Source Source `json:"source"`
}

// Initcall is a call of one of the kernel's initcalls.
type Initcall struct {
	Name   string `json:"name"`
	NS     int64  `json:"ns"`
	TookNS int64  `json:"took_ns"`
}

// MarkerAt is a value that the guest wrote to tell how far it is.
type MarkerAt struct {
	Where string `json:"where"` // such as "port 0x80"
	Value uint32 `json:"value"`
	User  bool   `json:"user"` // from user mode
	NS    int64  `json:"ns"`
}

// net is a time without the cost.
func (m moment) net() int64 { return int64(m.at - m.cost) }

// Data is what has been recorded, of a machine with that kernel.
func (r *Recorder) Data(kernel string) Data {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fromLog()
	d := Data{Version: 1, Kernel: kernel, Note: r.note, CostNS: int64(r.cost), Stops: r.hits,
		Phases: []PhaseAt{}, Initcalls: []Initcall{}, Markers: []MarkerAt{}}
	for _, p := range phases {
		if m, ok := r.seen[p]; ok {
			d.Phases = append(d.Phases, PhaseAt{p, m.net(), int64(m.cost), m.source})
		}
	}
	for _, c := range r.calls {
		if c.ending { // one during which the machine ended has no length
			d.Initcalls = append(d.Initcalls, Initcall{c.name, c.began.net(), c.ended.net() - c.began.net()})
		}
	}
	for _, m := range r.markers {
		d.Markers = append(d.Markers, MarkerAt{m.where, m.value, m.user, m.net()})
	}
	return d
}

// The rows in a viewer.
const (
	rowPhases = iota + 1
	rowInitcalls
	rowMarkers
)

// WriteTo writes the timeline as a File.
func (d Data) WriteTo(w io.Writer) (int64, error) {
	f := File{DisplayTimeUnit: "ms", VMM: d}
	name := func(kind string, tid int, name string) {
		f.TraceEvents = append(f.TraceEvents, Event{Name: kind, Phase: "M", PID: 1, TID: tid, Args: map[string]string{"name": name}})
	}
	name("process_name", 0, "vmm boot "+d.Kernel)
	name("thread_name", rowPhases, "phases")
	name("thread_name", rowInitcalls, "initcalls")
	name("thread_name", rowMarkers, "markers")
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	// A phase in a viewer is the time from one to the next, and has the name of
	// its beginning.
	steps := byTime(d.Phases)
	for i, p := range steps {
		e := Event{Name: string(p.Name), Phase: "i", Scope: "t", Time: us(p.NS), PID: 1, TID: rowPhases, Args: map[string]string{"source": string(p.Source)}}
		if i+1 < len(steps) {
			e.Phase, e.Scope, e.Took = "X", "", us(steps[i+1].NS-p.NS)
		}
		f.TraceEvents = append(f.TraceEvents, e)
	}
	for _, c := range d.Initcalls {
		f.TraceEvents = append(f.TraceEvents, Event{Name: c.Name, Phase: "X", Time: us(c.NS), Took: us(c.TookNS), PID: 1, TID: rowInitcalls})
	}
	for _, m := range d.Markers {
		f.TraceEvents = append(f.TraceEvents, Event{Name: fmt.Sprintf("%s: %#x", m.Where, m.Value), Phase: "i", Scope: "t", Time: us(m.NS), PID: 1, TID: rowMarkers})
	}
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return 0, err
	}
	n, err := w.Write(append(b, '\n'))
	return int64(n), err
}

// byTime are the phases in the order in which they were reached.
func byTime(p []PhaseAt) []PhaseAt {
	p = slices.Clone(p)
	slices.SortStableFunc(p, func(a, b PhaseAt) int { return cmp.Compare(a.NS, b.NS) })
	return p
}

// limits are those of a file: hundreds of times what a kernel's start has.
var limits = untrusted.Limits{Bytes: 64 << 20, Values: 1_000_000}

// Read reads what WriteTo wrote.
func Read(r io.Reader) (Data, error) {
	var f File
	if err := untrusted.JSON(r, limits, &f); err != nil {
		return Data{}, fmt.Errorf("not a timeline: %w", err)
	}
	if f.VMM.Version != 1 {
		return Data{}, errors.New("not a timeline of this version of vmm: 'vmm boot --timeline' writes one")
	}
	return f.VMM, nil
}
