package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"

	"vmm/cmd/internal/cli"
	"vmm/console"
	"vmm/untrusted"
)

// logs are what vmm says while a machine runs. Warnings and errors always reach
// standard error, at once, each a line "vmm: ...". With -v all else comes too, in
// slog's form; where standard error and the guest's console lead to the same
// place, that is held back until the console is done, so that the two never mix.
//
// All of it is limited in number: a guest can cause it.
type logs struct {
	logger *slog.Logger
	limit  *cli.Limit
	held   *heldWriter // nil: nothing is held back
	errors io.Writer
}

func newLogs(verbose bool, out *console.Output) *logs {
	shared := sameFile(os.Stdout, os.Stderr)
	l := &logs{errors: messages{os.Stderr}}
	if shared {
		l.errors = messages{out}
	}
	handlers := both{&plain{w: l.errors}}
	if verbose {
		w := cli.Err()
		if shared {
			l.held = &heldWriter{}
			w = l.held
		} else {
			handlers = nil // one form of each line is enough
		}
		handlers = append(handlers, slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	l.limit = cli.NewLimit(handlers)
	l.logger = slog.New(l.limit)
	return l
}

// now is where to say what is worth saying while the guest runs; nil where standard
// error is for the report in JSON.
func (l *logs) now(json bool) io.Writer {
	if json {
		return nil
	}
	return l.errors
}

// release prints what was held back, and says what was left out.
func (l *logs) release() {
	if l.held != nil {
		l.held.release(cli.Err())
	}
	l.limit.End(cli.Err())
}

// both is a handler that hands on to several.
type both []slog.Handler

func (b both) Enabled(ctx context.Context, level slog.Level) bool {
	for _, h := range b {
		if h.Enabled(ctx, level) {
			return true
		}
	}
	return false
}

func (b both) Handle(ctx context.Context, r slog.Record) (err error) {
	for _, h := range b {
		if h.Enabled(ctx, r.Level) {
			if e := h.Handle(ctx, r); e != nil {
				err = e
			}
		}
	}
	return err
}

func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	all := make(both, len(b))
	for i, h := range b {
		all[i] = h.WithAttrs(attrs)
	}
	return all
}

func (b both) WithGroup(name string) slog.Handler {
	all := make(both, len(b))
	for i, h := range b {
		all[i] = h.WithGroup(name)
	}
	return all
}

// plain writes warnings and errors for a person: "vmm: message: error (key value)".
type plain struct {
	w     io.Writer
	attrs []slog.Attr
}

func (p *plain) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (p *plain) WithGroup(string) slog.Handler                    { return p }
func (p *plain) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &plain{p.w, append(p.attrs[:len(p.attrs):len(p.attrs)], attrs...)}
}

func (p *plain) Handle(_ context.Context, r slog.Record) error {
	var why string
	var others []string
	take := func(a slog.Attr) bool {
		switch a.Key {
		case "error", "err":
			why = ": " + a.Value.String()
		case "left_out":
			others = append(others, fmt.Sprintf("and %v like it before", a.Value))
		default:
			others = append(others, fmt.Sprintf("%s %v", a.Key, a.Value))
		}
		return true
	}
	for _, a := range p.attrs {
		take(a)
	}
	r.Attrs(take)
	text := "vmm: " + r.Message + why
	if len(others) > 0 {
		text += " (" + strings.Join(others, ", ") + ")"
	}
	// A line is one line, whatever a file or a device is called.
	_, err := io.WriteString(p.w, untrusted.Text(text)+"\n")
	return err
}

// messages writes lines of vmm's own to where the guest's console may be, too: a
// terminal in raw mode, perhaps, where a new line does not begin at the left, and
// where the guest may be in the middle of a line.
type messages struct{ w io.Writer }

func (m messages) Write(p []byte) (int, error) {
	var shown bytes.Buffer
	if _, err := untrusted.Writer(&shown).Write(p); err != nil {
		return 0, err
	}
	text := shown.Bytes()
	if term.IsTerminal(syscall.Stderr) {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	if out, ok := m.w.(*console.Output); ok {
		out.WriteLine(text)
		return len(p), nil
	}
	_, err := m.w.Write(text)
	return len(p), err
}

// sameFile reports whether two files are one terminal, pipe or file.
func sameFile(a, b *os.File) bool {
	ai, aerr := a.Stat()
	bi, berr := b.Stat()
	if aerr != nil || berr != nil {
		return false
	}
	as, aok := ai.Sys().(*syscall.Stat_t)
	bs, bok := bi.Sys().(*syscall.Stat_t)
	return aok && bok && as.Dev == bs.Dev && as.Ino == bs.Ino
}

// heldWriter keeps the first maxHeld bytes written to it.
type heldWriter struct {
	mu      sync.Mutex
	held    bytes.Buffer
	dropped int
}

const maxHeld = 1 << 20

func (h *heldWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held.Len()+len(p) > maxHeld {
		h.dropped++
		return len(p), nil
	}
	return h.held.Write(p)
}

func (h *heldWriter) release(w io.Writer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Nowhere to report that standard error cannot be written to.
	_, _ = h.held.WriteTo(w)
	if h.dropped > 0 {
		fmt.Fprintf(w, "vmm: %d more log lines were dropped\n", h.dropped)
		h.dropped = 0
	}
}
