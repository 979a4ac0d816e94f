package run

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/control"
	"vmm/run/protocol"
)

// answerFor is how long a guest may take to take a session.
const answerFor = 30 * time.Second

// connect begins a session with the first process of a machine's guest.
func (r *Record) connect() (*session, error) {
	conn, err := net.Dial("unix", filepath.Join(r.dir, socketName))
	if err != nil {
		return nil, err
	}
	s, err := begin(conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the machine %s: %w", r.Name, err), conn.Close())
	}
	return s, nil
}

// begin asks the device for the guest's port, and waits for its greeting.
func begin(conn net.Conn) (*session, error) {
	if err := conn.SetDeadline(time.Now().Add(answerFor)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", protocol.GuestPort); err != nil {
		return nil, err
	}
	// Byte by byte: what follows the line is the guest's.
	line, err := bufio.NewReaderSize(oneByte{conn}, 64).ReadSlice('\n')
	if err != nil || !strings.HasPrefix(string(line), "OK ") {
		return nil, errors.New("the guest takes no sessions: it is starting, or about to end")
	}
	s, err := greet(conn)
	if err != nil {
		return nil, err
	}
	return s, conn.SetDeadline(time.Time{})
}

// oneByte is a reader that does not read ahead.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// ExecConfig is a program to execute in a machine that runs.
type ExecConfig struct {
	State           string
	Machine         string
	Command         []string
	Env             []string
	Dir, User       string
	Input, Terminal bool
	In, Out, Err    *os.File
}

// Exec executes a program beside a machine's own, and returns its exit status. Signals
// are the program's.
func Exec(c ExecConfig, signals <-chan os.Signal) (int, error) {
	r, err := findRunning(c.State, c.Machine)
	if err != nil {
		return 0, err
	}
	p := r.Process
	p.Args, p.Terminal = c.Command, c.Terminal
	if c.Dir != "" {
		p.Dir = inFolder(p.Dir, c.Dir)
	}
	if c.User != "" {
		p.User, p.Groups = c.User, nil
	}
	if p.Env, err = withUsers(p.Env, c.Env); err != nil {
		return 0, err
	}
	t, err := openTerminal(c.Terminal, c.Input, c.In, c.Out)
	if err != nil {
		return 0, err
	}
	if t != nil {
		p.Rows, p.Columns = t.size()
	}
	if err := p.Check(); err != nil {
		return 0, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	s, err := r.connect()
	if err != nil {
		return 0, err
	}
	defer s.conn.Close()
	if err := s.to.Write(protocol.Exec, text); err != nil {
		return 0, err
	}
	end := func() { s.conn.Close() }
	signalled := &relay{cancel: end}
	go signalled.relay(signals)
	to := streams{out: c.Out, err: c.Err}
	if c.Input {
		to.in = c.In
	}
	status, err := attached(s, to, t, signalled, end)
	var not notExecuted
	if errors.As(err, &not) {
		return int(not.status), fmt.Errorf("the machine %s: %s", r.Name, not.why)
	}
	return status, err
}

// Kill sends a machine's program a signal.
func Kill(state, machine string, n unix.Signal) error {
	r, err := findRunning(state, machine)
	if err != nil {
		return err
	}
	return r.kill(n)
}

func (r *Record) kill(n unix.Signal) error {
	s, err := r.connect()
	if err != nil {
		return err
	}
	defer s.conn.Close()
	if err := errors.Join(s.conn.SetDeadline(time.Now().Add(answerFor)), s.to.Number(protocol.Kill, uint32(n))); err != nil {
		return err
	}
	_, err = s.run(streams{out: io.Discard, err: io.Discard})
	if err != nil {
		return fmt.Errorf("the machine %s: %w", r.Name, err)
	}
	return nil
}

// Stop asks a machine's program to end, and ends the machine if it has not after a
// while.
func Stop(state, machine string, patience time.Duration) error {
	r, err := findRunning(state, machine)
	if err != nil {
		return err
	}
	stop, err := ParseSignal(r.StopSignal)
	if err != nil {
		stop = unix.SIGTERM // an image may name what there is not
	}
	if err := r.kill(stop); err == nil && r.wait(patience) {
		return nil
	}
	return r.end()
}

// wait waits for a machine to end, and says whether it has.
func (r *Record) wait(atMost time.Duration) bool {
	for end := time.Now().Add(atMost); ; time.Sleep(20 * time.Millisecond) { // a lock has no timeout
		if !running(r.dir) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// end ends a machine whose guest does not.
func (r *Record) end() error {
	m, err := control.Dial(filepath.Join(r.dir, controlName))
	if err == nil {
		_, err = m.Call(control.Request{Command: control.Stop})
		m.Close()
	}
	if r.wait(endFor) {
		return nil
	}
	return errors.Join(fmt.Errorf("the machine %s has not ended", r.Name), err)
}

// Remove removes what is kept of a machine, which it ends with force.
func Remove(state, machine string, force bool) error {
	r, err := find(state, machine)
	if err != nil {
		return err
	}
	if r.Running {
		if !force {
			return fmt.Errorf("the machine %s runs: stop it first, or add --force", r.Name)
		}
		if err := r.end(); err != nil {
			return err
		}
	}
	return os.RemoveAll(r.dir)
}

// ParseSignal is a signal by name, with SIG or without, or number; SIGTERM for "".
func ParseSignal(text string) (unix.Signal, error) {
	if text == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil && n >= 1 && n <= 64 {
		return unix.Signal(n), nil
	}
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("there is no signal %q: see signal(7)", text)
}
