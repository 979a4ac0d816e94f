package console

import (
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is what vmm was started from, as the guest's console: a terminal in
// raw mode, or a pipe or file as it is.
//
// In raw mode each key goes to the guest as it is typed, Ctrl-C included, and
// the guest does the echoing. Output is not processed either: the guest's own
// terminal driver has turned line feeds into what a terminal wants. Messages
// of vmm's own need "\r\n" there.
//
// Ctrl-Z is the guest's too. Started in the background, vmm is stopped by
// SIGTTOU until it is brought to the foreground, as any program is that takes
// over the terminal.
type Terminal struct {
	in    *os.File
	saved *term.State // nil: not a terminal

	restore sync.Once
}

// OpenTerminal puts in into raw mode, if it is a terminal. Restore undoes it.
func OpenTerminal(in *os.File) (*Terminal, error) {
	t := &Terminal{in: in}
	if !term.IsTerminal(int(in.Fd())) {
		return t, nil
	}
	saved, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	t.saved = saved
	return t, nil
}

// Raw reports whether this is a terminal in raw mode.
func (t *Terminal) Raw() bool { return t.saved != nil }

// Restore gives the terminal back as it was. It may be called more than once,
// and from any goroutine.
func (t *Terminal) Restore() {
	if t.saved == nil {
		return
	}
	// No error: a terminal that is gone needs no restoring.
	t.restore.Do(func() { _ = term.Restore(int(t.in.Fd()), t.saved) })
}

// OnResize calls f with the terminal's size, now and whenever it changes, until
// the function that it returns is called. It does nothing where there is no
// terminal.
func (t *Terminal) OnResize(f func(columns, rows uint16)) (stop func()) {
	if t.saved == nil {
		return func() {}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGWINCH)
	var done sync.WaitGroup
	done.Go(func() {
		for ok := true; ok; _, ok = <-signals {
			if columns, rows, err := term.GetSize(int(t.in.Fd())); err == nil {
				f(uint16(columns), uint16(rows))
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		done.Wait()
	}
}

// waitReadable waits until in has something to read, or its end, and reports
// false when stop became readable first. It does not set O_NONBLOCK: that flag
// would be shared with the shell that vmm was started from.
func waitReadable(in, stop int) bool {
	fds := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return false
		case fds[1].Revents != 0:
			return false
		}
		return true
	}
}
