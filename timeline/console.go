package timeline

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// kernelLog is what the kernel wrote of its start to the console, with the
// kernel's own times. They are a fallback, for kernels without symbols.
type kernelLog struct {
	// zero is when the kernel's clock was 0, as far as is known: each line came
	// after the time that it says, and the one that came soonest tells most.
	zero   time.Time
	events []logEvent
}

// logEvent is a line of the log that means something here.
type logEvent struct {
	at    time.Duration // by the kernel's clock
	phase Phase         // or
	call  string        // an initcall that ended,
	took  time.Duration // after this time
}

// maxLine is how much of a line is looked at.
const maxLine = 1024

// tap is a console that somebody reads along.
type tap struct {
	to io.Writer
	r  *Recorder

	mu   sync.Mutex
	line []byte
	text []byte // whose appearance means Ready; empty for nothing
}

// Console returns a writer that passes on what the guest writes to its console
// and looks for the kernel's times in it, and for the text that means Ready. Two
// devices may write to it: their lines are then in pieces, and not understood.
func (r *Recorder) Console(to io.Writer) io.Writer {
	return &tap{to: to, r: r, text: []byte(r.Condition.Console)}
}

func (t *tap) Write(p []byte) (int, error) {
	// Look first: the write may wait for its reader.
	t.look(p)
	return t.to.Write(p)
}

func (t *tap) look(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range p {
		switch {
		case b == '\n':
			t.r.logLine(string(bytes.TrimRight(t.line, "\r")), time.Now())
			t.line = t.line[:0]
		case len(t.line) < maxLine:
			t.line = append(t.line, b)
			if len(t.text) > 0 && bytes.HasSuffix(t.line, t.text) {
				t.r.Mark(Ready, FromConsole)
				t.text = nil
			}
		}
	}
}

// logLine looks at a line of the console, such as
//
//	[    0.123456] Run /init as init process
//
// With initcall_debug on the kernel's command line there are lines for the
// initcalls, too.
func (r *Recorder) logLine(line string, arrived time.Time) {
	rest, ok := strings.CutPrefix(line, "[")
	if !ok {
		return
	}
	stamp, message, ok := strings.Cut(rest, "] ")
	if !ok {
		return
	}
	stamp, _, _ = strings.Cut(stamp, "]") // with CONFIG_PRINTK_CALLER: [    0.1][    T1]
	seconds, err := strconv.ParseFloat(strings.TrimSpace(stamp), 64)
	if err != nil || !(seconds >= 0 && seconds < 1e6) {
		return
	}
	e := logEvent{at: time.Duration(seconds * float64(time.Second))}
	switch {
	case strings.HasPrefix(message, "Linux version "):
		e.phase = StartKernel
	case strings.HasPrefix(message, "Freeing unused kernel image (initmem)"):
		e.phase = InitcallsDone
	case strings.HasPrefix(message, "Run ") && strings.HasSuffix(message, " as init process"):
		e.phase = RunInit
	case strings.HasPrefix(message, "initcall "):
		// initcall foo_init+0x0/0x20 returned 0 after 123 usecs
		words := strings.Fields(message)
		if len(words) != 7 || words[2] != "returned" || words[6] != "usecs" {
			return
		}
		us, err := strconv.ParseUint(words[5], 10, 40)
		if err != nil {
			return
		}
		e.call, _, _ = strings.Cut(words[1], "+")
		e.took = time.Duration(us) * time.Microsecond
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if zero := arrived.Add(-e.at); r.log.zero.IsZero() || zero.Before(r.log.zero) {
		r.log.zero = zero
	}
	if (e.phase != "" || e.call != "") && len(r.log.events) < maxCalls {
		r.log.events = append(r.log.events, e)
	}
}

// fromLog fills in, from the kernel's log, what no probe has seen. The caller
// holds the lock.
func (r *Recorder) fromLog() {
	calls := len(r.calls) == 0
	for _, e := range r.log.events {
		m := r.at(r.log.zero.Add(e.at), FromConsole)
		if _, ok := r.seen[e.phase]; e.phase != "" && !ok {
			r.seen[e.phase] = m
		}
		if e.call != "" && calls {
			began := m
			began.at -= e.took
			r.calls = append(r.calls, call{e.call, began, m, true})
		}
	}
}
