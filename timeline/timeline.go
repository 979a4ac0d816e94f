// Package timeline records when a machine passes the stages of its start, from
// the exec of vmm to a guest that is ready, and writes them for programs and
// for people. docs/timeline.md describes the file.
//
// It measures and knows nothing of machines: whoever knows that a stage has
// been reached calls Recorder.Mark.
package timeline

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Phase is a stage of the start.
type Phase string

// The phases, in the order in which a Linux guest passes them.
const (
	// Exec is when the process of vmm became vmm; see ExecTime.
	Exec Phase = "exec"
	// VMMReady is when vmm had read its command line.
	VMMReady Phase = "vmm ready"
	// KernelLoaded is when the machine was put together and the kernel in its
	// memory.
	KernelLoaded Phase = "kernel loaded"
	// Entered is just before the first instruction of the guest.
	Entered Phase = "first guest instruction"
	// Unpacked is when a kernel that unpacks itself has done so.
	Unpacked Phase = "kernel unpacked"
	// StartKernel is the entry of start_kernel, Linux's first function in C
	// that does not belong to an architecture.
	StartKernel Phase = "start_kernel"
	// InitcallsDone is when the last initcall has returned and Linux frees the
	// memory of its start.
	InitcallsDone Phase = "initcalls done"
	// RunInit is when Linux is about to execute init.
	RunInit Phase = "run_init_process"
	// InitMarker is init's first write to port 0x80.
	InitMarker Phase = "first write of init"
	// BootTimer is when the guest wrote to Firecracker's boot timer.
	BootTimer Phase = "boot timer"
	// Ready is what the user of vmm waits for.
	Ready Phase = "ready"
)

// phases are all phases in order.
var phases = []Phase{Exec, VMMReady, KernelLoaded, Entered, Unpacked, StartKernel, InitcallsDone, RunInit, InitMarker, BootTimer, Ready}

// Recorder collects what happens. A nil Recorder ignores it, so that nobody
// has to ask whether there is a timeline. Its methods may be called from any
// goroutine.
type Recorder struct {
	// Condition is what Ready means.
	Condition Condition
	// Probes asks for probes on the guest's kernel.
	Probes bool

	mu      sync.Mutex
	start   time.Time
	seen    map[Phase]moment
	calls   []call
	markers []marker
	log     kernelLog

	// cost is the time that the timeline itself has taken so far, while the
	// guest waited for it.
	cost time.Duration
	hits int // how often the guest was stopped for it
	note string
}

// moment is a point in time, and the cost up to it.
type moment struct {
	at, cost time.Duration // at since start
	source   Source
}

// Source says how something was found out.
type Source string

// The sources.
const (
	// FromVMM is what vmm did itself, or a device of it.
	FromVMM Source = "vmm"
	// FromProbe is a probe on the guest's kernel.
	FromProbe Source = "probe"
	// FromConsole is a time in the log that the kernel wrote to its console.
	FromConsole Source = "console"
)

// call is a call of an initcall.
type call struct {
	name   string
	began  moment
	ended  moment
	ending bool // ended is there
}

// marker is a value that the guest wrote to tell how far it is.
type marker struct {
	moment
	where string // what it wrote to
	value uint32
	user  bool // from user mode
}

// ExecTime is when this process executed its program, for now: the time before
// which it has used no processor. What the process waited for, pages of the
// program from a disk, say, is not in it, and what it computed before exec, in a
// shell, is. With the program in the page cache it is right to a millisecond
// (docs/timeline.md has the measurement).
//
// The kernel knows the start of a process, but only to 10 ms: field 22 of
// /proc/PID/stat, proc(5).
func ExecTime() time.Time {
	now := time.Now()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
		return now // Linux always has this clock
	}
	return now.Add(-time.Duration(used.Nano()))
}

// New returns a recorder for a process that was executed at a time.
func New(exec time.Time) *Recorder {
	r := &Recorder{start: exec, seen: map[Phase]moment{}}
	r.seen[Exec] = moment{source: FromVMM}
	return r
}

// at is a moment. What happens while the guest is stopped for the timeline has
// the time of the stop: the cost of that stop is not known yet. The caller holds
// the lock.
func (r *Recorder) at(t time.Time, s Source) moment { return moment{t.Sub(r.start), r.cost, s} }

// Mark says that a phase has been reached. Only the first time counts.
func (r *Recorder) Mark(p Phase, s Source) {
	if r != nil {
		r.MarkAt(p, s, time.Now())
	}
}

// MarkAt says when a phase was reached.
func (r *Recorder) MarkAt(p Phase, s Source, t time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.seen[p]; !again {
		r.seen[p] = r.at(t, s)
	}
}

// Since is how long after Exec a phase was reached, without what the timeline
// itself cost.
func (r *Recorder) Since(p Phase) (time.Duration, bool) {
	if r == nil {
		return 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.seen[p]
	return m.at - m.cost, ok
}

// maxCalls and maxMarkers bound what a guest can have recorded. Debian's kernel
// has a thousand initcalls.
const (
	maxCalls   = 20_000
	maxMarkers = 1000
)

// CallBegan says when the kernel called an initcall.
func (r *Recorder) CallBegan(name string, t time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) < maxCalls {
		r.calls = append(r.calls, call{name: name, began: r.at(t, FromProbe)})
	}
}

// CallEnded says when the initcall that began last returned.
func (r *Recorder) CallEnded(t time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.calls); n > 0 && !r.calls[n-1].ending {
		r.calls[n-1].ended, r.calls[n-1].ending = r.at(t, FromProbe), true
	}
}

// Marker says when the guest wrote a value to tell how far it is: where, and
// whether from user mode.
func (r *Recorder) Marker(where string, value uint32, user bool, t time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.markers) < maxMarkers {
		r.markers = append(r.markers, marker{r.at(t, FromVMM), where, value, user})
	}
}

// Cost says that the guest has waited for the timeline since a time, in that
// many stops.
func (r *Recorder) Cost(since time.Time, stops int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cost += time.Since(since)
	r.hits += stops
}

// Note says why something is missing. The last one counts.
func (r *Recorder) Note(why string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note = why
}
