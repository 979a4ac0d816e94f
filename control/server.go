package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"vmm/socket"
)

const (
	maxRequest     = 4096 // bytes
	maxConnections = 16
)

// Server answers requests.
type Server struct {
	machine Machine
	done    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener      // nil without
	conns    map[net.Conn]bool // nil after Close
	stopping *time.Timer       // of stop; nil for none
}

// NewServer returns a server of a machine that nobody can reach yet.
func NewServer(m Machine) *Server { return &Server{machine: m, conns: map[net.Conn]bool{}} }

// Listen answers the requests of those who connect to a path, to which only the
// user that runs vmm has access, until Close. It is called once.
func (s *Server) Listen(path string) error {
	listener, err := socket.Listen(path)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = listener
	s.done.Go(func() { socket.Accept(listener, s.Serve) })
	return nil
}

// Serve answers the requests of a connection, which it takes over, until Close.
func (s *Server) Serve(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConnections {
		_ = json.NewEncoder(c).Encode(Response{Error: fmt.Sprintf("%d clients are connected already: close one of them first", maxConnections)})
	}
	if s.conns == nil || len(s.conns) >= maxConnections {
		c.Close()
		return
	}
	s.conns[c] = true
	s.done.Go(func() { s.serve(c) })
}

// Close ends all connections. A request that is being carried out is finished.
func (s *Server) Close() error {
	s.mu.Lock()
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	if s.stopping != nil {
		s.stopping.Stop()
	}
	s.mu.Unlock()
	s.done.Wait()
	return err
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	from := &filing{Conn: c}
	defer from.forget()
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, maxRequest), maxRequest)
	answers := json.NewEncoder(c)
	for lines.Scan() {
		answer := s.answer(lines.Bytes(), from.files)
		from.forget()
		if answers.Encode(answer) != nil {
			return
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		_ = answers.Encode(Response{Error: fmt.Sprintf("a request of more than %d bytes", maxRequest)})
	}
}

// answer carries a request out, which came with files.
func (s *Server) answer(line []byte, files []*os.File) Response {
	var r Request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Response{Error: fmt.Sprintf("not a request: %v", err)}
	}
	var err error
	switch r.Command {
	case Pause:
		s.machine.Pause()
	case Resume:
		s.machine.Resume()
	case Stop:
		err = s.stop(r.After)
	case Shutdown:
		err = s.machine.Shutdown()
	case Reboot:
		err = s.machine.Reboot()
	case ShowAll:
		status := s.machine.Status()
		return Response{Status: &status}
	case Balloon:
		if r.Size == nil {
			return Response{Error: "balloon needs a size, in bytes"}
		}
		err = s.machine.SetBalloon(*r.Size)
	case Link:
		if r.Up == nil {
			return Response{Error: "link needs up, true or false"}
		}
		err = s.machine.SetLink(r.Card, *r.Up)
	case Step:
		err = s.machine.Step(r.CPU)
	case TakeSnapshot:
		if len(files) != maxFiles {
			return Response{Error: fmt.Sprintf("snapshot needs %d files, which 'vmm ctl' sends with it", maxFiles)}
		}
		err = s.machine.Snapshot(files)
	case Type:
		err = s.machine.Type(r.Text)
	case Inspect:
		var result any
		var text []byte
		if result, err = s.machine.Inspect(r); err == nil {
			text, err = json.Marshal(result)
		}
		if err == nil {
			return Response{Result: text}
		}
	default:
		return Response{Error: fmt.Sprintf("%q is not a command: pause, resume, stop, shutdown, reboot, status, balloon, link, snapshot, step, type, inspect", r.Command)}
	}
	if err != nil {
		return Response{Error: err.Error()}
	}
	return Response{}
}

// maxAfter is the longest time that a guest is given to shut down, in seconds.
const maxAfter = 24 * 60 * 60

// stop ends the machine: at once, or some seconds after its guest has been asked to
// shut down. A guest that cannot be asked has no time to wait for.
func (s *Server) stop(after float64) error {
	switch {
	case !(after >= 0 && after <= maxAfter):
		return fmt.Errorf("stop after %v seconds: choose between 0 and %d", after, maxAfter)
	case after == 0:
		s.machine.Stop()
		return nil
	}
	if err := s.machine.Shutdown(); err != nil {
		s.machine.Stop()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping != nil {
		s.stopping.Stop()
	}
	if s.conns != nil {
		s.stopping = time.AfterFunc(time.Duration(after*float64(time.Second)), s.machine.Stop)
	}
	return nil
}
