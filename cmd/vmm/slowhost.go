package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"vmm/doctor"
	"vmm/machine"
)

// slowAfter is how long Linux may say nothing before the host is suspected to be
// too slow for it.
const slowAfter = time.Second

// slowHost finds out whether a silent guest is silent, or a crashed one crashed,
// for the host's KVM interprets its kernel. To wait would take minutes, and lead
// to nothing.
type slowHost struct {
	timer *time.Timer // nil for a kernel that is not Linux
	host  *doctor.Prober

	mu    sync.Mutex
	found string // what there is to say
	said  bool
}

// watchForSlowHost says it to w as soon as it is known, or, with a w of nil, leaves
// it to the report.
func watchForSlowHost(m *machine.Machine, host *doctor.Prober, w io.Writer) *slowHost {
	h := &slowHost{host: host}
	if !m.Linux() {
		return h
	}
	h.timer = time.AfterFunc(slowAfter, func() {
		if m.Heard() > 0 {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.found = h.host.Interpreted(); h.found != "" && w != nil {
			fmt.Fprintf(w, "vmm: %s\n", h.found)
			h.said = true
		}
	})
	return h
}

// finish adds to the report what has not been said, and what a crash calls for:
// an emulator that lacks an instruction is of no account where a processor
// executes it.
func (h *slowHost) finish(r *report) {
	if h.timer != nil {
		h.timer.Stop()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Crash != nil && r.Crash.Unemulated && h.found == "" {
		h.found = h.host.Interpreted()
	}
	if !h.said {
		r.Host = h.found
	}
}
