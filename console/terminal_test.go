package console

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openPTY opens a pseudo-terminal: a user's end and a program's.
func openPTY(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return user, program
}

func settings(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

func TestRawMode(t *testing.T) {
	_, program := openPTY(t)
	before := settings(t, program)
	terminal, err := OpenTerminal(program)
	if err != nil {
		t.Fatal(err)
	}
	if !terminal.Raw() {
		t.Fatal("a terminal is not in raw mode")
	}
	raw := settings(t, program)
	if bits := raw.Lflag & (unix.ICANON | unix.ECHO | unix.ISIG | unix.IEXTEN); bits != 0 {
		t.Errorf("the terminal still handles keys itself: Lflag %#x", bits)
	}
	if bits := raw.Iflag & (unix.ICRNL | unix.IXON | unix.ISTRIP); bits != 0 {
		t.Errorf("the terminal still changes input: Iflag %#x", bits)
	}
	if raw.Oflag&unix.OPOST != 0 {
		t.Error("the terminal still changes output")
	}

	terminal.Restore()
	if diff := cmp.Diff(before, settings(t, program)); diff != "" {
		t.Errorf("not restored: %s", diff)
	}

	// Once more does not undo what somebody else has set since.
	changed := before
	changed.Lflag ^= unix.ECHO
	if err := unix.IoctlSetTermios(int(program.Fd()), unix.TCSETS, &changed); err != nil {
		t.Fatal(err)
	}
	terminal.Restore()
	if diff := cmp.Diff(changed, settings(t, program)); diff != "" {
		t.Errorf("the second Restore did something: %s", diff)
	}
}

func TestRestoreWithoutATerminal(t *testing.T) {
	r, _ := pipe(t)
	terminal, err := OpenTerminal(r)
	if err != nil {
		t.Fatal(err)
	}
	terminal.Restore()
}

func TestRestoreAfterTheTerminalHasGone(t *testing.T) {
	user, program := openPTY(t)
	terminal, err := OpenTerminal(program)
	if err != nil {
		t.Fatal(err)
	}
	user.Close() // a window is closed
	sink := newSlow()
	input, err := terminal.Start(sink, Commands{})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, input)
	terminal.Restore()
}

func TestTyping(t *testing.T) {
	user, program := openPTY(t)
	terminal, err := OpenTerminal(program)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Restore()
	quit, help := make(chan struct{}, 1), make(chan struct{}, 1)
	sink := newSlow()
	input, err := terminal.Start(sink, Commands{
		Quit: func() { quit <- struct{}{} },
		Help: func() { help <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	typed := func(s string) {
		t.Helper()
		if _, err := user.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	happens := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatalf("no %s", what)
		}
	}

	const keys = "uname\r\x03\x04\x1a\x01\x01" // Ctrl-C, -D and -Z are the guest's
	typed(keys)
	want := strings.Replace(keys, "\x01\x01", "\x01", 1)
	sink.waitFor(t, len(want))
	if got := sink.text(); got != want {
		t.Errorf("the guest gets %q; want %q", got, want)
	}
	typed("\x01h")
	happens("help", help)

	// The guest takes nothing any more; commands still work.
	sink.drain(0)
	typed(strings.Repeat("z", 1000))
	typed("\x01x")
	happens("quit", quit)
	stop(t, input)
}

// A paste is larger than what a terminal holds: it waits for the guest.
func TestPasteIntoTerminal(t *testing.T) {
	user, program := openPTY(t)
	terminal, err := OpenTerminal(program)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Restore()
	sink := newSlow()
	input, err := terminal.Start(sink, Commands{})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("0123456789abcde\r", 16<<10)
	go func() { _, _ = user.WriteString(want) }()
	sink.waitFor(t, len(want))
	stop(t, input)
	if sink.text() != want {
		t.Error("what the guest gets is not what was pasted")
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	for _, key := range []string{"Ctrl-A x", "Ctrl-A h", "Ctrl-A Ctrl-A"} {
		if !strings.Contains(Help, key) {
			t.Errorf("the help does not mention %s", key)
		}
	}
}
