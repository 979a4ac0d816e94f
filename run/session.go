package run

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// notExecuted is about a program that did not run; the text is the guest's.
type notExecuted struct {
	status uint8
	why    string
}

func (n notExecuted) Error() string { return n.why }

// session is a connection to the guest's first process, for one program.
type session struct {
	conn net.Conn
	to   *protocol.Writer
	from []byte // a buffer for its messages

	mu      sync.Mutex
	started bool
	pending []func() error // signals, until the program runs
}

// greet begins a session.
func greet(conn net.Conn) (*session, error) {
	s := &session{conn: conn, to: protocol.NewWriter(conn), from: make([]byte, protocol.MaxData)}
	m, err := protocol.Read(conn, s.from)
	if err != nil {
		return nil, ended(err)
	}
	return s, protocol.Greet(m)
}

// ended is the error for a session that ends before its time.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
		return errEnded
	}
	return fmt.Errorf("the guest's first process: %w", err)
}

// errEnded says that the guest has ended the session before the program had ended.
var errEnded = errors.New("the guest has ended before its program told how it ended")

// streams are the standard ones of a program; in is nil for none.
type streams struct {
	in       io.Reader
	out, err io.Writer
	started  func() // is called when the program runs
}

// run hands the program's streams on until it has ended, and returns its status.
func (s *session) run(to streams) (uint8, error) {
	wanted := make(chan struct{}, 1)
	defer close(wanted)
	go s.input(to.in, wanted)
	var lost error // output
	write := func(w io.Writer, data []byte) {
		if lost != nil {
			return
		}
		if _, lost = w.Write(data); lost != nil {
			_ = s.signal(unix.SIGPIPE) // as for a program whose pipe is closed
		}
	}
	for {
		m, err := protocol.Read(s.conn, s.from)
		if err != nil {
			return 0, ended(err)
		}
		switch m.Kind {
		case protocol.Started:
			if err := s.start(); err != nil {
				return 0, err
			}
			if to.started != nil {
				to.started()
			}
		case protocol.Want:
			select {
			case wanted <- struct{}{}:
			default:
				return 0, errors.New("the guest's first process wants input twice at once")
			}
		case protocol.Stdout:
			write(to.out, m.Data)
		case protocol.Stderr:
			write(to.err, m.Data)
		case protocol.Exit:
			status, why, err := m.Status()
			if err == nil && why != "" {
				err = notExecuted{status, why}
			}
			return status, errors.Join(err, lost)
		default:
			return 0, fmt.Errorf("the guest's first process sends a message of kind %d, which is for it", m.Kind)
		}
	}
}

// start sends what has waited for the program.
func (s *session) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	for _, send := range s.pending {
		if err := send(); err != nil {
			return err
		}
	}
	s.pending = nil
	return nil
}

// maxPending is how many signals wait for a program.
const maxPending = 64

// once sends something now, or as soon as the program runs.
func (s *session) once(send func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return send()
	}
	if len(s.pending) < maxPending {
		s.pending = append(s.pending, send)
	}
	return nil
}

// signal sends the program a signal.
func (s *session) signal(n unix.Signal) error {
	return s.once(func() error { return s.to.Number(protocol.Signal, uint32(n)) })
}

// resize tells the program's terminal its size.
func (s *session) resize(rows, columns uint16) error {
	return s.once(func() error { return s.to.Resize(rows, columns) })
}

// input sends a piece of input whenever the program wants one.
func (s *session) input(in io.Reader, wanted <-chan struct{}) {
	buffer := make([]byte, protocol.MaxInput)
	for range wanted {
		n, err := 0, error(nil)
		if in == nil {
			err = io.EOF
		}
		for n == 0 && err == nil {
			n, err = in.Read(buffer)
		}
		if s.to.Write(protocol.Stdin, buffer[:n]) != nil || n == 0 {
			return // an error beside input comes again
		}
	}
}
