package run

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// relay hands signals on to the guest's program. Before it runs, those that ask for
// the end call the start off.
type relay struct {
	cancel func()

	mu       sync.Mutex
	session  *session // nil before there is one
	terminal *terminal
	end      func() // ends what does not end by itself
	asked    int    // for the end
}

// patience is how often a user asks for the end before the machine is ended: for a
// program that heeds no signal, or a guest that has stopped.
const patience = 3

// relay hands on for as long as this program runs.
func (r *relay) relay(signals <-chan os.Signal) {
	for s := range signals {
		r.hand(s.(syscall.Signal))
	}
}

// to has signals go to a session's program.
func (r *relay) to(s *session, t *terminal, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.session, r.terminal, r.end = s, t, end
}

func (r *relay) hand(n syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := n == unix.SIGINT || n == unix.SIGTERM
	switch {
	case r.session == nil:
		if end || n == unix.SIGHUP || n == unix.SIGQUIT {
			r.cancel()
		}
	case n == unix.SIGWINCH:
		if r.terminal != nil {
			_ = r.session.resize(r.terminal.size())
		}
	default:
		_ = r.session.signal(n)
		if end {
			r.asked++
		}
		if r.asked == patience {
			r.end()
		}
	}
}
