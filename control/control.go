// Package control lets other programs pause, resume, measure and end a running
// machine: requests and answers in JSON over a unix socket, a line each.
// docs/control.md describes them.
package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"vmm/socket"
)

// Machine is what can be controlled and looked at. Its methods are called
// concurrently.
type Machine interface {
	Controls
	// Inspect answers what r asks for, in a form for JSON.
	Inspect(r Request) (any, error)
}

// Controls are what can be done to a machine.
type Controls interface {
	Pause()
	Resume()
	Stop()
	Status() Status
	// SetBalloon sets how much memory the guest lends back, in bytes.
	SetBalloon(size uint64) error
	// SetLink plugs the cable of a network card in or out. The first card is
	// number 0.
	SetLink(card int, up bool) error
}

// The commands.
const (
	Pause   = "pause"
	Resume  = "resume"
	Stop    = "stop"
	ShowAll = "status"
	Balloon = "balloon"
	Link    = "link"
	Inspect = "inspect"
)

// Request asks for something.
type Request struct {
	Command string `json:"command"`
	// Size is that of Balloon, in bytes.
	Size *uint64 `json:"size,omitempty"`
	// Card and Up are those of Link.
	Card int   `json:"card,omitempty"`
	Up   *bool `json:"up,omitempty"`
	// What is that of Inspect: what to look at. CPU and Address are those of
	// some of it.
	What    string  `json:"what,omitempty"`
	CPU     int     `json:"vcpu,omitempty"`
	Address *uint64 `json:"address,omitempty"`
}

// Response is the answer to a Request: when there is no Error, it was done.
type Response struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"` // the answer to ShowAll
	// Result is the answer to Inspect. Its form depends on what was asked for.
	Result json.RawMessage `json:"result,omitempty"`
}

// Status is how a machine is doing.
type Status struct {
	State    string         `json:"state"` // "running" or "paused"
	PID      int            `json:"pid"`
	Seconds  float64        `json:"seconds"` // since vmm was started
	CPUs     int            `json:"cpus"`
	Memory   uint64         `json:"memory"`   // RAM of the guest, in bytes
	Resident uint64         `json:"resident"` // memory of vmm that is in use, the guest's included, in bytes
	Exits    uint64         `json:"exits"`    // from guest to vmm
	Balloon  *BalloonStatus `json:"balloon,omitempty"`
}

// BalloonStatus is the state of the balloon, sizes in bytes.
type BalloonStatus struct {
	Target uint64 `json:"target"` // what was asked for
	Actual uint64 `json:"actual"` // what the guest says is in it
	// Guest is how the guest says it uses its memory: "free_memory" and so
	// on, in bytes. It is missing when the guest does not answer.
	Guest map[string]uint64 `json:"guest,omitempty"`
}

const (
	maxRequest     = 4096 // bytes
	maxConnections = 16
)

// Server answers requests.
type Server struct {
	machine  Machine
	listener *net.UnixListener
	done     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil after Close
}

// Serve listens at a path, to which only the user that runs vmm has access, and
// answers requests until Close.
func Serve(path string, m Machine) (*Server, error) {
	listener, err := socket.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	s := &Server{machine: m, listener: listener, conns: map[net.Conn]bool{}}
	s.done.Go(s.accept)
	return s, nil
}

// Close ends all connections. A request that is being carried out is finished.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.done.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no more files, say; perhaps later
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if s.conns == nil || len(s.conns) >= maxConnections {
			c.Close()
		} else {
			s.conns[c] = true
			s.done.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	lines := bufio.NewScanner(c)
	lines.Buffer(make([]byte, maxRequest), maxRequest)
	answers := json.NewEncoder(c)
	for lines.Scan() {
		if answers.Encode(s.answer(lines.Bytes())) != nil {
			return
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		_ = answers.Encode(Response{Error: fmt.Sprintf("a request of more than %d bytes", maxRequest)})
	}
}

// answer carries a request out.
func (s *Server) answer(line []byte) Response {
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
		s.machine.Stop()
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
		return Response{Error: fmt.Sprintf("%q is not a command: pause, resume, stop, status, balloon, link, inspect", r.Command)}
	}
	if err != nil {
		return Response{Error: err.Error()}
	}
	return Response{}
}

// Call sends a request to the machine at a path and returns the answer. An
// answer with an Error is an error.
func Call(path string, r Request) (Response, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return Response{}, fmt.Errorf("no machine at %s: %w", path, errors.Unwrap(errors.Unwrap(err)))
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(r); err != nil {
		return Response{}, fmt.Errorf("%s: %w", path, err)
	}
	var answer Response
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return Response{}, fmt.Errorf("%s: the machine has ended: %w", path, err)
	}
	if answer.Error != "" {
		return answer, fmt.Errorf("%s: %s", path, answer.Error)
	}
	return answer, nil
}
