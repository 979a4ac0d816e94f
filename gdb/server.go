package gdb

import (
	"bufio"
	"bytes"
	"log/slog"
	"net"
	"sync"
	"time"

	"vmm/socket"
)

// Server lets one gdb at a time debug a target.
type Server struct {
	target   Target
	listener net.Listener
	log      *slog.Logger
	features []feature
	xml      string
	sizes    []int

	connected chan struct{} // closed when a gdb has come, the first time
	once      sync.Once
	done      sync.WaitGroup
	gone      chan struct{} // closed when the target has ended

	mu     sync.Mutex
	client net.Conn // nil for none
	closed bool
	status int // of the target's end
}

// Serve serves gdb at a listener, which it takes over, until Close.
func Serve(l net.Listener, t Target, log *slog.Logger) *Server {
	s := &Server{
		target: t, listener: l, log: log, features: description(),
		connected: make(chan struct{}), gone: make(chan struct{}),
	}
	s.xml, s.sizes = targetXML(s.features), layout(s.features)
	s.done.Go(func() { socket.Accept(l, s.accept) })
	return s
}

// Connected is closed when a gdb has connected.
func (s *Server) Connected() <-chan struct{} { return s.connected }

// End tells gdb, if one is connected, that the target has ended with an exit
// status. It comes before Close, and once.
func (s *Server) End(status int) {
	s.mu.Lock()
	s.status = status
	s.mu.Unlock()
	close(s.gone)
}

// Close ends the connection, if there is one, and waits until nothing of the
// Server touches the target any more.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	if s.client != nil {
		// What End has to say is on its way: a moment for gdb to read it.
		_ = s.client.SetReadDeadline(time.Now().Add(closeAfter))
	}
	s.mu.Unlock()
	s.done.Wait()
	return err
}

const closeAfter = 100 * time.Millisecond

func (s *Server) accept(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		c.Close()
	case s.client != nil:
		s.done.Go(func() { refuse(c) })
	default:
		s.client = c
		s.done.Go(func() { s.serve(c) })
	}
}

// refuse tells a second gdb that there is one already. gdb shows such a text when
// it is the answer to vMustReplyEmpty, which comes early; to its questions before
// there is no answer that it would show.
func refuse(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(refuseFor))
	out := &conn{w: c, acks: true}
	for r := bufio.NewReader(c); ; {
		body, err := readPacket(r)
		if err != nil {
			return
		}
		if len(body) == 1 && (body[0] == '+' || body[0] == '-' || body[0] == interrupt) {
			continue
		}
		answer := unknown
		if !bytes.HasPrefix(body, []byte("q")) {
			answer = []byte("E.another gdb debugs this machine; detach it first")
		}
		if out.acknowledge(true) != nil || out.send(answer) != nil {
			return
		}
	}
}

// refuseFor is how long a second gdb has to read that.
const refuseFor = time.Second

// serve is a debugging session.
func (s *Server) serve(c net.Conn) {
	s.log.Info("gdb has connected", "from", c.RemoteAddr())
	s.target.Attach()
	s.once.Do(func() { close(s.connected) })
	session := &session{Server: s, out: conn{w: c, acks: true}}
	err := session.run(c)
	// However it ended, the machine goes on, as if nobody had been here.
	c.Close()
	if !session.ended {
		s.target.Detach()
	}
	s.log.Info("gdb has gone", "error", err)
	s.mu.Lock()
	s.client = nil
	s.mu.Unlock()
}
