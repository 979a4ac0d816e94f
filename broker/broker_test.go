package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the process.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == Command {
		ready := os.NewFile(ReadyFD, "ready")
		_, _ = io.WriteString(ready, Ready)
		ready.Close()
		if err := Serve(LineFD, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(t *testing.T) (*Broker, string) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector lets a process sleep at its end
	path := filepath.Join(t.TempDir(), "s")
	b, err := Start(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, path
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestDial(t *testing.T) {
	b, path := start(t)
	l := listen(t, path+"_4294967295")
	c, err := b.Dial(1<<32 - 1)
	if err != nil {
		t.Fatal(err)
	}
	// The connection outlives the process.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got, err := io.ReadAll(far); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := b.Dial(1); err == nil {
		t.Error("a process that has ended connects")
	}
}

func TestErrors(t *testing.T) {
	b, path := start(t)
	defer b.Close()
	if _, err := b.Dial(1); err != unix.ENOENT {
		t.Errorf("nobody there: %v", err)
	}
	listen(t, path+"_2").(*net.UnixListener).SetUnlinkOnClose(false)
	l := listen(t, path+"_3")
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := b.Dial(3); err != unix.ECONNREFUSED {
		t.Errorf("nobody listens: %v", err)
	}
	// A queue that is full is not waited for, and who asks next gets an answer.
	var err error
	for range 1 << 16 {
		var c *net.UnixConn
		if c, err = b.Dial(2); err != nil {
			break
		}
		defer c.Close()
	}
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EMFILE) {
		t.Errorf("many: %v", err)
	}
	if _, err := b.Dial(1); err != unix.ENOENT {
		t.Errorf("after that: %v", err)
	}
}
