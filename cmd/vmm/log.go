package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// logs are the debug messages of -v. Where standard error and the guest's
// console lead to the same place, they are held back until the console is
// done, so that the two never mix.
type logs struct {
	logger *slog.Logger
	held   *heldWriter // nil: nothing is held back
}

func newLogs(verbose bool) *logs {
	if !verbose {
		return &logs{logger: slog.New(slog.DiscardHandler)}
	}
	l := &logs{}
	var w io.Writer = os.Stderr
	if sameFile(os.Stdout, os.Stderr) {
		l.held = &heldWriter{}
		w = l.held
	}
	l.logger = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return l
}

// release prints what was held back.
func (l *logs) release() {
	if l.held != nil {
		l.held.release(os.Stderr)
	}
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
