package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// A program is executed by a copy of this one.
func TestMain(m *testing.M) {
	if os.Args[0] == stageName {
		runtime.LockOSThread()
		becomeProgram()
	}
	os.Exit(m.Run())
}

// all reaps the processes of all tests: there is one that does in a guest.
var all = newProcesses(func() { panic("all processes were to end for a program that is not the main one") })

// host is the other side of a session.
type host struct {
	t    *testing.T
	conn *os.File
	to   *protocol.Writer
	from []byte
}

// begin begins a session with a program, as the host sees it.
func begin(t *testing.T, p protocol.Process) *host {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetNonblock(fds[0], true)
	h := &host{t: t, conn: os.NewFile(uintptr(fds[0]), "host"), from: make([]byte, protocol.MaxData)}
	h.to = protocol.NewWriter(h.conn)
	done := make(chan error, 1)
	go func() {
		s, err := newSession(fds[1])
		if err == nil {
			err = s.run(all, p, false)
			s.end()
		}
		done <- err
	}()
	t.Cleanup(func() {
		h.conn.Close()
		if err := <-done; err != nil {
			t.Log("the guest's side:", err)
		}
	})
	_ = h.conn.SetDeadline(time.Now().Add(time.Minute))
	if err := protocol.Greet(h.next()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) next() protocol.Message {
	h.t.Helper()
	m, err := protocol.Read(h.conn, h.from)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// run gives the program input, and returns what comes of it.
func (h *host) run(input string) (out, errs string, status uint8, why string) {
	h.t.Helper()
	var o, e bytes.Buffer
	in := strings.NewReader(input)
	for {
		switch m := h.next(); m.Kind {
		case protocol.Started:
		case protocol.Want:
			piece := make([]byte, protocol.MaxInput)
			n, _ := in.Read(piece)
			if err := h.to.Write(protocol.Stdin, piece[:n]); err != nil {
				h.t.Fatal(err)
			}
		case protocol.Stdout:
			o.Write(m.Data)
		case protocol.Stderr:
			e.Write(m.Data)
		case protocol.Exit:
			status, why, err := m.Status()
			if err != nil {
				h.t.Fatal(err)
			}
			return o.String(), e.String(), status, why
		default:
			h.t.Fatalf("a message of kind %d", m.Kind)
		}
	}
}

func sh(script string) protocol.Process {
	return protocol.Process{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin", "A=b c"}, Dir: "/tmp", AllCapabilities: true}
}

func TestPrograms(t *testing.T) {
	tests := map[string]struct {
		p              protocol.Process
		input          string
		out, errs, why string
		status         uint8
	}{
		"output":            {sh("echo out; echo err >&2; exit 3"), "", "out\n", "err\n", "", 3},
		"environment":       {sh(`echo "$A,$HOME"; pwd`), "", "b c,/root\n/tmp\n", "", "", 0},
		"input":             {sh("cat"), strings.Repeat("all of it\n", 20_000), strings.Repeat("all of it\n", 20_000), "", "", 0},
		"input not read":    {sh("exit 1"), strings.Repeat("x", 1<<20), "", "", "", 1},
		"signal":            {sh("kill -TERM $$"), "", "", "", "", 128 + 15},
		"who has a pipe":    {sh("sleep 60 & echo out"), "", "out\n", "", "", 0},
		"no such program":   {protocol.Process{Args: []string{"nosuch"}}, "", "", "", `"nosuch" is not in the image`, 127},
		"a folder":          {protocol.Process{Args: []string{"/etc"}}, "", "", "", "permission denied", 126},
		"not a program":     {protocol.Process{Args: []string{"/etc/passwd"}}, "", "", "", "permission denied", 126},
		"no such user":      {protocol.Process{Args: []string{"true"}, User: "nobodyhere"}, "", "", "", "not in its /etc/passwd", 125},
		"no working folder": {protocol.Process{Args: []string{"true"}, Dir: "/nosuch"}, "", "", "", "working directory", 125},
		"a terminal":        {protocol.Process{Args: []string{"sh", "-c", "stty size; tty >&2"}, Terminal: true, Rows: 33, Columns: 77}, "", "33 77\r\n/dev/pts/", "", "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, errs, status, why := begin(t, tt.p).run(tt.input)
			if tt.p.Terminal {
				out = strings.TrimRight(out, "0123456789\r\n")
			}
			if tt.p.Terminal && !strings.HasPrefix(out, tt.out) || !tt.p.Terminal && out != tt.out {
				t.Errorf("output %.200q, want %.200q", out, tt.out)
			}
			if errs != tt.errs || status != tt.status || !strings.Contains(why, tt.why) || (why == "") != (tt.why == "") {
				t.Errorf("errors %q, status %d, why %q; want %q, %d, %q", errs, status, why, tt.errs, tt.status, tt.why)
			}
		})
	}
}

// The host's signals and the size of its terminal reach the program.
func TestSignalAndSize(t *testing.T) {
	h := begin(t, protocol.Process{
		Args:     []string{"sh", "-c", `trap 'stty size; exit 7' USR1; echo ready; while :; do sleep 0.1; done`},
		Terminal: true, Rows: 1, Columns: 1, AllCapabilities: true,
	})
	var out strings.Builder
	for !strings.Contains(out.String(), "ready") {
		if m := h.next(); m.Kind == protocol.Stdout {
			out.Write(m.Data)
		}
	}
	if err := h.to.Resize(50, 100); err != nil {
		t.Fatal(err)
	}
	if err := h.to.Number(protocol.Signal, uint32(unix.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	got, _, status, _ := h.run("")
	if !strings.Contains(got, "50 100") || status != 7 {
		t.Errorf("%q, status %d; want the new size, and 7", got, status)
	}
}

// A program is who the image wants, with what it may have and nothing else.
func TestIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	p := sh("id -u; id -g; id -G; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ulimit -n; ulimit -Hn; echo hi >/dev/stdout")
	p.User, p.Groups = "1234:5678", []string{"7", "8"}
	p.AllCapabilities, p.Capabilities, p.NoNewPrivileges = false, []string{"CHOWN", "KILL"}, true
	p.Rlimits = []protocol.Rlimit{{Name: "NOFILE", Soft: 100, Hard: 200}}
	out, errs, status, why := begin(t, p).run("")
	want := "1234\n5678\n5678 7 8\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000021\nNoNewPrivs:\t1\n100\n200\nhi\n"
	if out != want || status != 0 {
		t.Errorf("%q %q %d %q, want %q", out, errs, status, why, want)
	}
	p.User, p.Groups = "", nil
	if out, _, _, _ = begin(t, p).run(""); !strings.Contains(out, "CapEff:\t0000000000000021\nCapBnd:\t0000000000000021") {
		t.Errorf("root: %q", out)
	}
}

// A host that says what none would ends its session, and nothing else.
func FuzzSession(f *testing.F) {
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	text, _ := json.Marshal(protocol.Process{Args: []string{"true"}})
	_ = w.Write(protocol.Exec, text)
	_ = w.Write(protocol.Stdin, []byte("in"))
	_ = w.Number(protocol.Signal, 0)
	_ = w.Resize(1, 2)
	f.Add(b.Bytes())
	b.Reset()
	_ = w.Number(protocol.Kill, 0)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := protocol.Read(bytes.NewReader(data), make([]byte, protocol.MaxData)); err == nil && m.Kind == protocol.Exec {
			if p, err := protocol.ReadProcess(bytes.NewReader(m.Data)); err == nil && p.Args[0] != "true" {
				return // of all programs of this host, one
			}
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.SetNonblock(fds[0], true)
		conn := os.NewFile(uintptr(fds[0]), "host")
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		done := make(chan error, 1)
		go func() { done <- answer(all, fds[1]) }()
		go func() {
			_, _ = conn.Write(data)
			_ = unix.Shutdown(fds[0], unix.SHUT_WR)
		}()
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("the session does not end")
		}
	})
}

func TestNetworkMessages(t *testing.T) {
	got := attribute(attribute(nil, unix.IFA_LOCAL, []byte{10, 0, 2, 15}), unix.RTA_OIF, []byte{1})
	if want := "[8 0 2 0 10 0 2 15 5 0 4 0 1 0 0 0]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
