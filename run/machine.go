package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/initrd"
	"vmm/run/protocol"
)

// machine is a virtual machine that runs an image.
type machine struct {
	process *exec.Cmd
	console tail // what its console and its monitor said
	errors  tail
	ended   chan struct{}
	err     error // of the monitor, once it has ended
	session *session
}

// endFor is how long a machine may take to switch off after its program has ended.
const endFor = 30 * time.Second

// Run runs an image as a machine until its program ends, whose exit status it
// returns. Its goroutine stays on its thread: the monitor ends when that does. Signals
// are the program's, once it runs.
func Run(c Config, signals <-chan os.Signal) (status int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signalled := &relay{cancel: cancel}
	go signalled.relay(signals)
	cache, err := OpenCache(c.Cache)
	if err != nil {
		return 0, err
	}
	s, err := cache.open(ctx, c.Image, c.say)
	if err != nil {
		return 0, err
	}
	spec, err := c.spec(s)
	if err != nil {
		return 0, errors.Join(err, s.close())
	}
	disk, err := cache.fileSystem(ctx, s, c.say)
	if err := errors.Join(err, s.close()); err != nil {
		return 0, fmt.Errorf("the image %s: %w", c.Image, err)
	}
	terminal, err := openTerminal(c.Terminal, c.Input, c.In, c.Out)
	if err != nil {
		return 0, err
	}
	if terminal != nil {
		spec.Process.Rows, spec.Process.Columns = terminal.size()
	}
	record, err := register(c, spec, s.stop)
	if err != nil {
		return 0, err
	}
	started := false // so that there is something to keep
	defer func() { err = errors.Join(err, record.finish(c.Detached && c.Keep && started, status, err)) }()
	if spec.Hostname == "" {
		spec.Hostname = record.Name
		spec.Process.Env = set(spec.Process.Env, "HOSTNAME", record.Name)
	}
	m, err := c.start(ctx, record, disk, spec)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	to := streams{out: c.Out, err: c.Err, started: func() {
		started = true
		if c.Started != nil {
			c.Started(record.ID)
		}
	}}
	if c.Detached {
		log, err := record.openLog()
		if err != nil {
			return 0, err
		}
		defer log.Close()
		to.out, to.err = log, log
	} else if c.Input {
		to.in = c.In
	}
	return m.run(c.Image, to, terminal, signalled)
}

// start starts the monitor, and waits for the guest's first process.
func (c *Config) start(ctx context.Context, r *Record, disk string, spec *protocol.Spec) (_ *machine, err error) {
	m := &machine{ended: make(chan struct{})}
	ram := filepath.Join(r.dir, initrdName)
	if err := c.writeInitrd(ram, spec); err != nil {
		return nil, fmt.Errorf("the initial RAM disk: %w", err)
	}
	socket := filepath.Join(r.dir, socketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket + "_" + strconv.Itoa(protocol.HostPort), Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close() // there is one session of the main program
	args, err := c.args(disk, ram, socket, filepath.Join(r.dir, controlName))
	if err != nil {
		return nil, err
	}
	m.process = exec.Command(c.Programs.VMM, args...)
	m.process.Stdout, m.process.Stderr = &m.console, &m.errors
	// Ctrl-C is for the guest's program. And a machine that nobody waits for is gone.
	runtime.LockOSThread()
	m.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	if err := m.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		m.err = m.process.Wait()
		close(m.ended)
		l.Close()
	}()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, errors.Join(m.whyEnded(ctx), m.kill())
	}
	if m.session, err = greet(conn); err != nil {
		return nil, errors.Join(m.explained(err), conn.Close(), m.kill())
	}
	return m, nil
}

// whyEnded is the error for a machine that ends before its guest says anything.
func (m *machine) whyEnded(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errors.New("interrupted before the guest ran")
	}
	<-m.ended
	return m.explained(errors.New("the guest has not run"))
}

// explained adds what the monitor and the guest's console said last.
func (m *machine) explained(err error) error {
	select {
	case <-m.ended:
	case <-time.After(time.Second): // it says why it ends when it does
	}
	for _, t := range []*tail{&m.errors, &m.console} {
		if text := t.String(); text != "" {
			return fmt.Errorf("%w:\n%s", err, text)
		}
	}
	return err
}

// run hands on what the program has to say, and what it is sent.
func (m *machine) run(image string, to streams, t *terminal, r *relay) (int, error) {
	status, err := attached(m.session, to, t, r, func() { _ = m.kill() })
	var not notExecuted
	switch {
	case errors.As(err, &not):
		return int(not.status), fmt.Errorf("%s: %s", image, not.why)
	case errors.Is(err, errEnded):
		return 0, m.explained(err)
	}
	return status, err
}

// attached runs a session with a terminal, if there is one, and signals.
func attached(s *session, to streams, t *terminal, r *relay, end func()) (int, error) {
	if t != nil {
		if err := t.raw(); err != nil {
			return 0, err
		}
		defer t.restore()
	}
	r.to(s, t, end)
	status, err := s.run(to)
	return int(status), err
}

// end waits for the machine to switch itself off.
func (m *machine) end() error {
	m.session.conn.Close()
	select {
	case <-m.ended:
		return nil
	case <-time.After(endFor):
		return errors.Join(errors.New("the guest does not switch off after the end of its program, and was ended"), m.kill())
	}
}

// kill ends the machine.
func (m *machine) kill() error {
	_ = m.process.Process.Signal(unix.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(endFor):
		_ = m.process.Process.Kill()
		<-m.ended
	}
	return nil
}

// writeInitrd writes the initial RAM disk of a guest.
func (c *Config) writeInitrd(path string, spec *protocol.Spec) (err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return initrd.Write(out, spec, c.Programs.Init, c.Modules)
}

// tail keeps the end of what is written to it: a guest may write for ever.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// maxTail is how much of it, in bytes.
const maxTail = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[max(0, len(p)-maxTail):]...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(strings.TrimSpace(string(t.text)), "\r", "")
}
