package run

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is the user's, while the guest's program has it.
type terminal struct {
	file  *os.File    // nil where there is none here
	state *term.State // before it was raw
	once  sync.Once
}

// openTerminal is the user's terminal, if the program is to have one.
func openTerminal(wanted, input bool, in, out *os.File) (*terminal, error) {
	if !wanted {
		return nil, nil
	}
	for _, f := range []*os.File{in, out} {
		if f != nil && term.IsTerminal(int(f.Fd())) {
			return &terminal{file: f}, nil
		}
	}
	if input {
		return nil, errors.New("--tty with --interactive needs a terminal here: leave --tty out, or run it in one")
	}
	return &terminal{}, nil
}

// size is how large it is.
func (t *terminal) size() (rows, columns uint16) {
	const usualRows, usualColumns = 24, 80
	if t.file == nil {
		return usualRows, usualColumns
	}
	w, err := unix.IoctlGetWinsize(int(t.file.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Row == 0 || w.Col == 0 {
		return usualRows, usualColumns
	}
	return w.Row, w.Col
}

// raw has it hand on keys as they are.
func (t *terminal) raw() error {
	if t.file == nil {
		return nil
	}
	state, err := term.MakeRaw(int(t.file.Fd()))
	t.state = state
	return err
}

// restore makes it what it was.
func (t *terminal) restore() {
	t.once.Do(func() {
		if t.state != nil {
			_ = term.Restore(int(t.file.Fd()), t.state)
		}
	})
}
