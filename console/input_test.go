package console

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// slow is a Sink that takes a few bytes at a time, and more only when the test
// drains it, as a serial port does.
type slow struct {
	mu    sync.Mutex
	room  int
	got   []byte
	ready chan struct{}
}

func newSlow() *slow { return &slow{ready: make(chan struct{}, 1)} }

func (s *slow) Receive(data []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(data), s.room)
	s.room -= n
	s.got = append(s.got, data[:n]...)
	return n
}

func (s *slow) Ready() <-chan struct{} { return s.ready }

// drain makes room for n bytes.
func (s *slow) drain(n int) {
	s.mu.Lock()
	s.room = n
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// text is what has been received.
func (s *slow) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.got)
}

// count is how many bytes have been received.
func (s *slow) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// waitFor drains until n bytes have been received.
func (s *slow) waitFor(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for step := 1; s.count() < n; step++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were received; want %d", s.count(), n)
		}
		s.drain(step % 257) // 0 too: a signal without room
		runtime.Gosched()   // to who sends, where there is one processor
	}
}

// start begins to copy from in, which is not a terminal.
func start(t *testing.T, in *os.File, sink Sink) *Input {
	t.Helper()
	terminal, err := OpenTerminal(in)
	if err != nil {
		t.Fatal(err)
	}
	if terminal.Raw() {
		t.Fatalf("%s is taken for a terminal", in.Name())
	}
	input, err := terminal.Start(sink, Commands{
		Quit: func() { t.Error("Quit without a terminal") },
		Help: func() { t.Error("Help without a terminal") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return input
}

// stop stops the input, which must not wait for anything.
func stop(t *testing.T, i *Input) {
	t.Helper()
	done := make(chan struct{})
	go func() { i.Stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Stop does not return")
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// random is data with every byte value in it, Ctrl-A among them.
func random(n int) []byte {
	data := make([]byte, n)
	source := rand.New(rand.NewPCG(3, 4))
	for i := range data {
		data[i] = byte(source.Uint32())
	}
	return data
}

func TestPipeIsCopiedByteForByte(t *testing.T) {
	r, w := pipe(t)
	want := random(1 << 20)
	go func() {
		_, _ = w.Write(want)
		w.Close()
	}()
	sink := newSlow()
	input := start(t, r, sink)
	sink.waitFor(t, len(want))
	stop(t, input)
	if sink.text() != string(want) {
		t.Error("what was received is not what was sent")
	}
}

func TestFileIsCopied(t *testing.T) {
	want := random(100_000)
	name := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sink := newSlow()
	input := start(t, f, sink)
	sink.waitFor(t, len(want))
	stop(t, input)
	if sink.text() != string(want) {
		t.Error("what was received is not what the file holds")
	}
}

// At the end of the input nothing more comes from there. What is typed elsewhere
// still does.
func TestEndOfInput(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w := pipe(t)
	w.Close()
	for _, in := range []*os.File{null, r} {
		sink := newSlow()
		sink.room = 100
		input := start(t, in, sink)
		if err := input.Type([]byte("typed")); err != nil {
			t.Error(err)
		}
		sink.waitFor(t, len("typed"))
		stop(t, input)
		if got := sink.text(); got != "typed" {
			t.Errorf("%s: received %q", in.Name(), got)
		}
	}
}

func TestStopWhileWaiting(t *testing.T) {
	tests := []struct {
		name string
		sent int // bytes
	}{
		{"for input", 0},
		{"for the guest", 10},
		{"for the guest, with more read ahead", 40_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, w := pipe(t)
			if _, err := w.Write(make([]byte, tt.sent)); err != nil {
				t.Fatal(err)
			}
			input := start(t, r, newSlow())
			for unread := tt.sent; unread > 0 && unread >= tt.sent; { // has begun
				var err error
				if unread, err = unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ); err != nil {
					t.Fatal(err)
				}
			}
			stop(t, input)
		})
	}
}

// The flags belong to the open file, which vmm shares with the shell.
func TestInputStaysBlocking(t *testing.T) {
	r, w := pipe(t)
	fd := int(r.Fd()) // makes it blocking, as a shell's is
	sink := newSlow()
	input := start(t, r, sink)
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	sink.waitFor(t, 1)
	for _, when := range []string{"while copying", "after Stop"} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		if flags&unix.O_NONBLOCK != 0 {
			t.Errorf("%s the input is non-blocking", when)
		}
		if when == "while copying" {
			stop(t, input)
		}
	}
	// What was not read is left for others.
	if _, err := w.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, 1)
	if _, err := io.ReadFull(r, rest); err != nil || rest[0] != 'y' {
		t.Errorf("after Stop %q, %v; want 'y'", rest, err)
	}
}

func TestKeys(t *testing.T) {
	const a = "\x01"
	tests := []struct {
		name       string
		typed      []string // as they come from the terminal
		want       string
		quit, help int
	}{
		{"no command", []string{"ls\r"}, "ls\r", 0, 0},
		{"quit", []string{a + "x"}, "", 1, 0},
		{"quit, in two reads", []string{"b" + a, "X"}, "b", 1, 0},
		{"help, amid text", []string{"one" + a + "htwo"}, "onetwo", 0, 1},
		{"help by question mark", []string{a + "?"}, "", 0, 1},
		{"Ctrl-A twice", []string{a + a}, a, 0, 0},
		{"Ctrl-A a", []string{a + "a"}, a, 0, 0},
		{"three times, and x", []string{a + a + a + "x"}, a, 1, 0},
		{"four times, and x", []string{a, a, a, a, "x"}, a + a + "x", 0, 0},
		{"no command after Ctrl-A", []string{a + "ls"}, a + "ls", 0, 0},
		{"the same in two reads", []string{a, "\x1b[A"}, a + "\x1b[A", 0, 0},
		{"Ctrl-C", []string{"\x03"}, "\x03", 0, 0},
		{"all others", []string{"\x00\x02\x7f\x80\xff"}, "\x00\x02\x7f\x80\xff", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var quit, help int
			k := keys{commands: Commands{Quit: func() { quit++ }, Help: func() { help++ }}}
			var got bytes.Buffer
			for _, typed := range tt.typed {
				got.Write(k.filter([]byte(typed)))
			}
			if got.String() != tt.want || quit != tt.quit || help != tt.help {
				t.Errorf("guest gets %q, quit %d, help %d; want %q, %d, %d",
					got.String(), quit, help, tt.want, tt.quit, tt.help)
			}
		})
	}
}
