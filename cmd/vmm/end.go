package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vmm/cmd/internal/cli"
	"vmm/console"
	"vmm/machine"
	"vmm/sandbox"
)

// Causes for which a run is cancelled, besides a signal and a console that cannot
// be written to.
var (
	errTimeout = errors.New("timeout")
	errQuit    = errors.New("Ctrl-A x")
)

// signalError is a signal that ended the run.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return e.Signal.String() }

const (
	// endWithin is how long vmm may take to end, once somebody has asked for it or
	// the guest has ended. machine.Close takes at most two thirds of it.
	endWithin = 1500 * time.Millisecond
	// abortAfter is how long a guest that has ended by itself waits for the reader
	// of its console: another vCPU may be writing.
	abortAfter = time.Second
	// tellWithin is how long last words may take, where standard error is a pipe
	// that nobody reads.
	tellWithin = 100 * time.Millisecond
	// againAfter is how far apart two signals are at least that somebody sent on
	// purpose: timeout(1), for one, sends each of its own twice, and Ctrl-C reaches
	// 'vmm explore', which passes it on, and vmm boot alike.
	againAfter = 50 * time.Millisecond
)

// ending sees to it that vmm ends. Ending in good order takes the cooperation of
// vCPUs, of devices' workers, and of whoever reads what vmm writes. After endWithin,
// or at once when a second signal comes, ending ends the process without them; the
// last line says who was missing.
type ending struct {
	// ctx is cancelled when somebody wants the run to end, with the cause.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// patience is cancelled with it, or a while after the guest has ended by
	// itself: the console's reader is not waited for any longer.
	patience context.Context
	abort    context.CancelFunc

	start     time.Time
	json      bool
	debugExit bool

	begun    sync.Once
	began    atomic.Pointer[time.Time]        // when begun was
	over     chan struct{}                    // closed when all has ended
	machine  atomic.Pointer[machine.Machine]  // nil before there is one
	terminal atomic.Pointer[console.Terminal] // likewise
	step     atomic.Pointer[string]           // of ending, that is under way
	last     atomic.Pointer[report]           // the last words, of the first to say them
}

func newEnding(json, debugExit bool) *ending {
	e := &ending{start: time.Now(), json: json, debugExit: debugExit, over: make(chan struct{})}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	e.patience, e.abort = context.WithCancel(e.ctx)
	go func() {
		select {
		case <-e.ctx.Done():
			if e.machine.Load() == nil && e.wait(0) {
				e.force("") // there is nothing yet that should end in good order
			}
			e.begin()
		case <-e.over:
		}
	}()
	return e
}

// close says that all has ended.
func (e *ending) close() {
	close(e.over)
	e.abort()
	e.cancel(nil)
}

// begin sets vmm a time to end within.
func (e *ending) begin() {
	e.begun.Do(func() {
		now := time.Now()
		e.began.Store(&now)
		go func() {
			if e.wait(abortAfter) {
				e.abort()
			}
			if e.wait(endWithin - abortAfter) {
				e.force(fmt.Sprintf("did not end within %v", endWithin))
			}
		}()
	})
}

// wait waits for a time, and reports whether vmm has yet to end.
func (e *ending) wait(t time.Duration) bool {
	select {
	case <-time.After(t):
	case <-e.over:
	}
	select {
	case <-e.over:
		return false
	default:
		return true
	}
}

// seconds is the time since the start.
func (e *ending) seconds() float64 { return time.Since(e.start).Seconds() }

// taken is how long vmm has been ending, in seconds.
func (e *ending) taken() float64 {
	if began := e.began.Load(); began != nil {
		return time.Since(*began).Seconds()
	}
	return 0
}

// after ends the run after a time; 0 for never.
func (e *ending) after(t time.Duration) {
	if t > 0 {
		time.AfterFunc(t, func() { e.cancel(errTimeout) })
	}
}

// onSignals makes a signal that asks vmm to end a wish, to be granted with the
// terminal restored. A second SIGINT, SIGTERM or SIGQUIT is granted at once.
func (e *ending) onSignals() {
	signals := make(chan os.Signal, 1)
	cli.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		e.cancel(signalError{(<-signals).(syscall.Signal)})
		first := time.Now()
		for s := range signals {
			if s != syscall.SIGHUP && time.Since(first) >= againAfter {
				e.force("was not waited for after a second signal")
			}
		}
	}()
}

// running says that there is a machine.
func (e *ending) running(m *machine.Machine) {
	e.machine.Store(m)
	go func() {
		select {
		case <-m.Ended():
			e.begin()
		case <-e.over:
		}
	}()
}

// doing says what vmm is doing to end.
func (e *ending) doing(step string) { e.step.Store(&step) }

// tell says how the run has ended, and returns what makes vmm exit with its status.
func (e *ending) tell(r *report) error {
	if !e.last.CompareAndSwap(nil, r) {
		select {} // force is telling, and ends the process
	}
	r.EndSeconds = e.taken()
	r.print(cli.Err(), e.json)
	if r.Status != cli.OK {
		return cli.ExitStatus(r.Status)
	}
	return nil
}

// force ends the process. Why says, of whoever has not ended, what they did not do.
func (e *ending) force(why string) { e.now(e.soFar(why), tellWithin) }

// refused ends the process because of a system call that its sandbox refused. The
// thread that made it does not go on, and may hold up others; whatever happens here,
// it ends the process itself in the end.
func (e *ending) refused(call string) {
	r := newReport(machine.Outcome{}, errors.New(sandbox.Refusal(call)), nil, e.debugExit)
	r.Seconds = e.seconds()
	e.now(r, endWithin)
}

// now ends the process with a report, which has a time to be written.
func (e *ending) now(r *report, within time.Duration) {
	if e.last.CompareAndSwap(nil, r) {
		if t := e.terminal.Load(); t != nil {
			t.Restore()
		}
		told := make(chan struct{})
		go func() {
			r.print(cli.Err(), e.json)
			close(told)
		}()
		e.waitFor(told, within)
	}
	os.Exit(e.last.Load().Status)
}

func (e *ending) waitFor(done <-chan struct{}, t time.Duration) {
	select {
	case <-done:
	case <-time.After(t):
	}
}

// soFar is the report of a run that has not ended in good order.
func (e *ending) soFar(why string) *report {
	var outcome machine.Outcome
	var err error
	m := e.machine.Load()
	if m != nil {
		select {
		case <-m.Ended():
			outcome, err = m.Outcome()
		default:
		}
	}
	r := newReport(outcome, err, context.Cause(e.ctx), e.debugExit)
	r.Seconds, r.EndSeconds = e.seconds(), e.taken()
	if m == nil {
		return r
	}
	r.Stats = m.Stats()
	who := m.Unfinished()
	if step := e.step.Load(); len(who) == 0 && step != nil {
		who = []string{*step}
	}
	if len(who) == 0 {
		who = []string{"vmm"}
	}
	r.lost(fmt.Errorf("%s %s; what was yet to be written may be lost", strings.Join(who, " and "), why))
	return r
}
