package control

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine notes what it is asked for.
type machine struct {
	mu       sync.Mutex
	calls    []string
	noButton error // the guest does not listen to it
}

func (m *machine) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
}

func (m *machine) Pause()        { m.note("pause") }
func (m *machine) Resume()       { m.note("resume") }
func (m *machine) Stop()         { m.note("stop") }
func (m *machine) Reboot() error { m.note("reboot"); return nil }

func (m *machine) Shutdown() error {
	m.note("shutdown")
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noButton
}

func (m *machine) Status() Status { return Status{State: "running", CPUs: 3} }

func (m *machine) SetBalloon(size uint64) error {
	m.note("balloon %d", size)
	if size > 1000 {
		return errors.New("too large")
	}
	return nil
}

func (m *machine) Snapshot(files []*os.File) error {
	for i, f := range files {
		if _, err := fmt.Fprintf(f, "file %d", i); err != nil {
			return err
		}
	}
	m.note("snapshot to %d files", len(files))
	return nil
}

func (m *machine) Step(vcpu int) error { return errors.New("no step") }

func (m *machine) Type(text string) error { return nil }

func (m *machine) SetLink(card int, up bool) error {
	m.note("link %d %v", card, up)
	return nil
}

func (m *machine) Inspect(r Request) (any, error) {
	if r.What != "numbers" {
		return nil, errors.New("only numbers")
	}
	return []uint64{uint64(r.CPU), *r.Address}, nil
}

func serve(t *testing.T) (*machine, string) {
	t.Helper()
	m, path := &machine{}, filepath.Join(t.TempDir(), "control")
	s := NewServer(m)
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, path
}

func TestCommands(t *testing.T) {
	m, path := serve(t)
	size, large, up := uint64(100), uint64(2000), true
	for _, r := range []Request{
		{Command: Pause}, {Command: Resume}, {Command: Balloon, Size: &size}, {Command: Link, Card: 1, Up: &up},
		{Command: Stop}, {Command: Shutdown}, {Command: Reboot},
	} {
		if _, err := Call(path, r); err != nil {
			t.Error(err)
		}
	}
	answer, err := Call(path, Request{Command: ShowAll})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Status{State: "running", CPUs: 3}, answer.Status); diff != "" {
		t.Error(diff)
	}
	if _, err := Call(path, Request{Command: Balloon, Size: &large}); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v; want what the machine says", err)
	}
	address := uint64(1 << 60)
	if answer, err := Call(path, Request{Command: Inspect, What: "numbers", CPU: 3, Address: &address}); err != nil || string(answer.Result) != "[3,1152921504606846976]" {
		t.Errorf("%s, %v", answer.Result, err)
	}
	if _, err := Call(path, Request{Command: Inspect, What: "words"}); err == nil || !strings.Contains(err.Error(), "only numbers") {
		t.Errorf("%v; want what the machine says", err)
	}
	if diff := cmp.Diff([]string{"pause", "resume", "balloon 100", "link 1 true", "stop", "shutdown", "reboot", "balloon 2000"}, m.calls); diff != "" {
		t.Error(diff)
	}
}

func TestBadRequests(t *testing.T) {
	_, path := serve(t)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	lines := bufio.NewReader(c)
	for _, tt := range []struct{ request, want string }{
		{`nonsense`, "not a request"},
		{`{"command":"explode"}`, "is not a command"},
		{`{"command":"balloon"}`, "needs a size"},
		{`{"command":"balloon","size":-1}`, "not a request"},
		{`{"command":"link"}`, "needs up"},
		{`{"command":"snapshot"}`, "needs 3 files"},
		{`{"command":"pause","sise":1}`, "not a request"},
		{`{"command":"pause"}`, "{}"},
		{`{"command":"stop","after":-1}`, "choose between"},
		{`{"command":"stop","after":1e300}`, "choose between"},
		{strings.Repeat("x", maxRequest), "more than"},
	} {
		fmt.Fprintln(c, tt.request)
		if answer, err := lines.ReadString('\n'); err != nil || !strings.Contains(answer, tt.want) {
			t.Errorf("%.40s: %q, %v; want %q", tt.request, answer, err, tt.want)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	_, err := Call(filepath.Join(t.TempDir(), "none"), Request{Command: Pause})
	if err == nil || !strings.Contains(err.Error(), "no machine at") {
		t.Errorf("%v", err)
	}
}

// A server with idle clients closes all the same. Those who are too many are told.
func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	s := NewServer(&machine{})
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	for range maxConnections {
		c, err := Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Call(Request{Command: ShowAll}); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		if _, err := Call(path, Request{Command: Pause}); err == nil || errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "connected already") {
			t.Errorf("one too many: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A machine that is to stop after a while is asked to shut down, and has that long.
// One that cannot be asked stops at once.
func TestStopAfter(t *testing.T) {
	for _, tt := range []struct {
		name     string
		after    float64
		noButton error
		want     []string
	}{
		{"in time", 3600, nil, []string{"shutdown"}},
		{"not in time", 0.01, nil, []string{"shutdown", "stop"}},
		{"nobody listens", 3600, errors.New("no driver"), []string{"shutdown", "stop"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, path := serve(t)
			m.mu.Lock()
			m.noButton = tt.noButton
			m.mu.Unlock()

			_, err := Call(path, Request{Command: Stop, After: tt.after})

			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				m.mu.Lock()
				done := len(m.calls) >= len(tt.want)
				m.mu.Unlock()
				if done {
					break
				}
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if diff := cmp.Diff(tt.want, m.calls); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The files of a request arrive with it, and are closed with it, as are those that
// nobody asked for.
func TestFiles(t *testing.T) {
	m, path := serve(t)
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	var files []*os.File
	for range maxFiles {
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Call(Request{Command: Pause}); err != nil {
		t.Fatal(err)
	}
	before := descriptors()
	for range 10 {
		if _, err := c.CallWith(Request{Command: TakeSnapshot}, files); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CallWith(Request{Command: Pause}, files); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CallWith(Request{Command: TakeSnapshot}, files[:1]); err == nil || !strings.Contains(err.Error(), "needs 3 files") {
			t.Errorf("with one file: %v", err)
		}
		if _, err := c.CallWith(Request{Command: TakeSnapshot}, append(files, files...)); err != nil {
			t.Errorf("with six files: %v", err)
		}
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors; before there were %d", after, before)
	}
	text, err := os.ReadFile(files[2].Name())
	if err != nil || !strings.HasPrefix(string(text), "file 2file 2") {
		t.Errorf("the third file holds %q, %v", text, err)
	}
	if n := len(m.calls); n < 20 {
		t.Errorf("%d calls", n)
	}
}
