package machine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"vmm/memory"
	"vmm/trace"
)

// Last is what a machine did last.
type Last struct {
	CPUs []LastCPU `json:"vcpus"`
	// Unclaimed are accesses that no device answered: the first different ones.
	Unclaimed []Unclaimed `json:"unclaimed,omitempty"`
	// Screen are the last lines of text in the memory of a PC's screen, which this
	// machine does not have.
	Screen []string `json:"screen,omitempty"`
	// Warnings are the last of the log, about features refused, say.
	Warnings []string `json:"warnings,omitempty"`
}

// LastCPU is what a processor did last.
type LastCPU struct {
	CPU   int   `json:"vcpu"`
	State State `json:"state"`
	// Mode is the width of its code, in bits.
	Mode int       `json:"mode,omitempty"`
	RIP  trace.Hex `json:"rip"`
	Insn string    `json:"instruction,omitempty"`
	// Exits counts those to vmm, and Accesses are what the last of them asked
	// devices for, the oldest first.
	Exits    uint64   `json:"exits"`
	Accesses []string `json:"last_exits,omitempty"`
}

// State is what a processor does.
type State string

// The states.
const (
	StateRunning    State = "running"
	StateHalted     State = "halted"
	StateDead       State = "halted with interrupts off"
	StateCrashed    State = "crashed"
	StateNotStarted State = "not started by the guest"
)

// Unclaimed is an access that no device answered.
type Unclaimed struct {
	Access string    `json:"access"` // in words
	Port   bool      `json:"port"`   // and not memory
	Addr   trace.Hex `json:"address"`
	Write  bool      `json:"write"`
	Count  uint64    `json:"count"` // how often
}

// The memory of a PC's screen in text mode: rows of characters with an attribute
// each. IBM Color/Graphics Monitor Adapter, "Alphanumeric Mode".
const (
	screenAddr    = 0xb8000
	screenRows    = 25
	screenColumns = 80
	// screenShown bounds how many rows are shown.
	screenShown = 10
)

// screen is the text in the screen's memory, its last rows, without those that are
// empty; nil where it is no text at all.
func screen(mem *memory.Guest) []string {
	cells := make([]byte, screenRows*screenColumns*2)
	if _, err := mem.ReadAt(cells, screenAddr); err != nil {
		return nil
	}
	var rows []string
	for row := range slices.Chunk(cells, screenColumns*2) {
		var text []byte
		for i := 0; i < len(row); i += 2 {
			c := row[i]
			if c != 0 && (c < ' ' || c > '~') {
				return nil
			}
			text = append(text, max(c, ' '))
		}
		if line := strings.TrimRight(string(text), " "); line != "" {
			rows = append(rows, line)
		}
	}
	return rows[max(0, len(rows)-screenShown):]
}

// recent are a processor's last accesses that came to vmm. The same again is
// counted.
type recent struct {
	ring [8]repeated
	n    int // of different ones, ever
}

type repeated struct {
	access
	count uint64
}

func (r *recent) add(a access) {
	if last := &r.ring[(r.n+len(r.ring)-1)%len(r.ring)]; r.n > 0 && last.access == a {
		last.count++
		return
	}
	r.ring[r.n%len(r.ring)] = repeated{a, 1}
	r.n++
}

// last is the last one; not valid where there is none.
func (r *recent) last() access {
	if r.n == 0 {
		return access{}
	}
	return r.ring[(r.n-1)%len(r.ring)].access
}

func (r *recent) oldestFirst() []repeated {
	if r.n <= len(r.ring) {
		return r.ring[:r.n]
	}
	at := r.n % len(r.ring)
	return append(slices.Clone(r.ring[at:]), r.ring[:at]...)
}

// describe names the device that was asked.
func (r repeated) describe(m *Machine) string {
	text := r.String()
	space := &m.mmio
	if r.port {
		space = &m.ports
	}
	if _, name, _ := space.Find(r.addr); name != "" {
		text += " (" + name + ")"
	}
	if r.count > 1 {
		text += fmt.Sprintf(", %d times", r.count)
	}
	return text
}

// heard counts what passes on its way to the console.
type heard struct {
	io.Writer
	bytes atomic.Uint64
}

func (h *heard) Write(p []byte) (int, error) {
	h.bytes.Add(uint64(len(p)))
	return h.Writer.Write(p)
}

// Heard is how many bytes the guest has written to its consoles.
func (m *Machine) Heard() uint64 { return m.heard.bytes.Load() }

// maxWarnings bounds how many warnings are kept.
const maxWarnings = 8

// warnings keeps the last lines of a log that are warnings, beside passing all on.
type warnings struct {
	slog.Handler
	kept  *kept
	attrs []slog.Attr
}

type kept struct {
	mu    sync.Mutex
	lines []string
}

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || w.Handler.Enabled(ctx, level)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs), w.kept, append(slices.Clone(w.attrs), attrs...)}
}

func (w warnings) WithGroup(name string) slog.Handler {
	return warnings{w.Handler.WithGroup(name), w.kept, w.attrs}
}

func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.kept.add(r, w.attrs)
	}
	if !w.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return w.Handler.Handle(ctx, r)
}

func (k *kept) add(r slog.Record, attrs []slog.Attr) {
	var line strings.Builder
	line.WriteString(r.Message)
	write := func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range attrs {
		write(a)
	}
	r.Attrs(write)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lines) == maxWarnings {
		k.lines = k.lines[1:]
	}
	k.lines = append(k.lines, line.String())
}

func (k *kept) all() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.lines)
}
