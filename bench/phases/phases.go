// Package phases sees from outside how far a start has come: the host's kernel
// tells when a guest is entered for the first time, when it writes to port 0x80,
// and when a program is executed. It works alike for every monitor and container,
// and needs no change to any. Linux's Documentation/trace/ftrace.rst, events.rst.
package phases

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tracer is an instance of the kernel's tracing of the bench's own.
type Tracer struct {
	dir    string
	guests bool // events of KVM can be seen
	ready  bool // the events are switched on
}

// MarkInit is what a guest writes to port 0x80 when its first program begins.
const MarkInit = 0x41

// events are those that the bench wants.
var events = []struct {
	name, filter string
	guest        bool
}{
	{"sched/sched_process_exec", "", false},
	{"kvm/kvm_fpu", "load == 1", true},
	{"kvm/kvm_pio", "port == 0x80", true},
}

// kvm_fpu is the last that KVM tells of before a vCPU enters the guest for the first
// time since KVM_RUN was called. It comes with each such call, and only the first
// is wanted: enough, done by the first return to the monitor, switches the record
// of it off. kvm_entry would do too, but there are hosts whose KVM has no such
// event.
const (
	enoughEvent = "kvm/kvm_userspace_exit"
	enough      = "disable_event:kvm:kvm_fpu"
)

// New sets the tracing up, by a name, and removes that of runs that were killed, by
// theirs. Mount is where to mount the file system if it is not there. A host without
// KVM has a tracer for programs only.
func New(mount, name string, killed []string) (*Tracer, error) {
	root := "/sys/kernel/tracing"
	if _, err := os.Stat(filepath.Join(root, "instances")); err != nil {
		if err := os.MkdirAll(mount, 0o700); err != nil {
			return nil, err
		}
		if err := unix.Mount("tracefs", mount, "tracefs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount tracefs: %w", err)
		}
		root = mount
	}
	for _, k := range killed {
		_ = os.Remove(filepath.Join(root, "instances", k))
	}
	t := &Tracer{dir: filepath.Join(root, "instances", name)}
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if err := t.setup(); err != nil {
		return nil, errors.Join(fmt.Errorf("tracing: %w", err), t.Close())
	}
	return t, nil
}

func (t *Tracer) setup() error {
	err := errors.Join(
		t.write("trace_clock", "mono"), // CLOCK_MONOTONIC
		t.write("buffer_size_kb", "256"),
		t.write("current_tracer", "nop"),
		t.write("tracing_on", "0"),
	)
	for _, e := range events {
		if _, statErr := os.Stat(filepath.Join(t.dir, "events", e.name)); statErr != nil {
			if !e.guest {
				err = errors.Join(err, statErr)
			}
			continue
		}
		t.guests = t.guests || e.guest
		dir := filepath.Join("events", e.name)
		if e.filter != "" {
			err = errors.Join(err, t.write(filepath.Join(dir, "filter"), e.filter))
		}
	}
	if t.guests {
		err = errors.Join(err, t.write(filepath.Join("events", enoughEvent, "trigger"), enough))
	}
	return err
}

func (t *Tracer) write(file, value string) error {
	return os.WriteFile(filepath.Join(t.dir, file), []byte(value), 0)
}

// Begin forgets what was seen and starts to look. The events are switched on at the
// first call, and stay on: to switch one changes the kernel's code while it runs,
// which takes long, and which emulated processors are not always up to.
func (t *Tracer) Begin() error {
	err := t.write("trace", "")
	if !t.ready || t.guests { // the trigger has muted one: this ends that, and changes no code
		err = errors.Join(err, t.enable("1"))
	}
	t.ready = true
	return errors.Join(err, t.write("tracing_on", "1"))
}

// Rest switches the events off, for as long as there is nothing to look at.
func (t *Tracer) Rest() error {
	if !t.ready {
		return nil
	}
	t.ready = false
	return t.enable("0")
}

func (t *Tracer) enable(value string) error {
	var err error
	for _, e := range events {
		file := filepath.Join("events", e.name, "enable")
		if _, statErr := os.Stat(filepath.Join(t.dir, file)); statErr == nil {
			err = errors.Join(err, t.write(file, value))
		}
	}
	return err
}

// Seen is what a start has shown.
type Seen struct {
	Guest time.Duration // when a guest was about to be entered first; 0: not seen
	Init  time.Duration // when the guest's first program said that it begins; 0: not seen
	Execs []Exec
}

// Exec is the execution of a program.
type Exec struct {
	At   time.Duration
	File string
}

// End stops looking, and tells what there was to see, by the clock of Now.
func (t *Tracer) End() (Seen, error) {
	if err := t.write("tracing_on", "0"); err != nil {
		return Seen{}, err
	}
	text, err := os.ReadFile(filepath.Join(t.dir, "trace"))
	if err != nil {
		return Seen{}, err
	}
	return parse(string(text)), nil
}

// parse reads lines such as
//
//	vmm-93  [001] .....  12.345678: kvm_pio: pio_write at 0x80 size 1 count 1 val 0x41
func parse(text string) Seen {
	var seen Seen
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		before, event, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		name, rest, _ := strings.Cut(event, ": ")
		fields := strings.Fields(before)
		if len(fields) == 0 {
			continue
		}
		at, err := parseTime(fields[len(fields)-1])
		if err != nil {
			continue
		}
		switch name {
		case "kvm_fpu":
			if seen.Guest == 0 {
				seen.Guest = at
			}
		case "kvm_pio":
			if seen.Init == 0 && strings.Contains(rest, fmt.Sprintf("val %#x", MarkInit)) {
				seen.Init = at
			}
		case "sched_process_exec":
			for _, w := range strings.Fields(rest) {
				if file, ok := strings.CutPrefix(w, "filename="); ok {
					seen.Execs = append(seen.Execs, Exec{at, file})
				}
			}
		}
	}
	return seen
}

// parseTime reads seconds with six decimals, exactly.
func parseTime(s string) (time.Duration, error) {
	whole, part, ok := strings.Cut(s, ".")
	if !ok || len(part) != 6 {
		return 0, fmt.Errorf("%q is no time", s)
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, err
	}
	micros, err := strconv.ParseInt(part, 10, 64)
	return time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond, err
}

// Close removes the tracing instance.
func (t *Tracer) Close() error {
	err := t.enable("0")
	if t.guests {
		err = errors.Join(err, t.write(filepath.Join("events", enoughEvent, "trigger"), "!"+enough))
	}
	return errors.Join(err, os.Remove(t.dir))
}

// Now is the time of the clock that the events have.
func Now() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}
