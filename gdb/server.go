package gdb

import (
	"bufio"
	"bytes"
	"errors"
	"log/slog"
	"net"
	"slices"
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

	done sync.WaitGroup
	gone chan struct{} // closed when the target has ended

	mu      sync.Mutex
	client  net.Conn   // the gdb that debugs; nil for none
	waiting []net.Conn // those that have yet to say that they are gdb, oldest first
	closed  bool
	status  int // of the target's end
}

// Serve serves gdb at a listener, which it takes over, until Close.
func Serve(l net.Listener, t Target, log *slog.Logger) *Server {
	s := &Server{
		target: t, listener: l, log: log, features: description(),
		gone: make(chan struct{}),
	}
	s.xml, s.sizes = targetXML(s.features), layout(s.features)
	s.done.Go(func() { socket.Accept(l, s.accept) })
	return s
}

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
	if s.client != nil {
		// What End has to say is on its way: a moment for gdb to read it.
		_ = s.client.SetReadDeadline(time.Now().Add(closeAfter))
	}
	for _, c := range s.waiting {
		c.Close()
	}
	s.closed = true
	s.mu.Unlock()
	s.done.Wait()
	return err
}

const closeAfter = 100 * time.Millisecond

// A connection is not gdb's before it has sent a packet. Until then it does nothing
// to the target, keeps no gdb out, and has greetFor. There are at most maxWaiting:
// the next one takes the place of the oldest.
const (
	greetFor   = 10 * time.Second
	maxWaiting = 16
)

func (s *Server) accept(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return
	}
	if len(s.waiting) == maxWaiting {
		s.waiting[0].Close()
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
	s.waiting = append(s.waiting, c)
	s.done.Go(func() {
		defer c.Close()
		r := bufio.NewReader(c)
		_ = c.SetReadDeadline(time.Now().Add(greetFor))
		first, err := greet(r)
		if errors.Is(err, errForeign) {
			s.log.Warn("gdb: a connection was closed that did not begin as gdb does" + from(c))
		}
		s.mu.Lock()
		i := slices.Index(s.waiting, c)
		open := !s.closed && err == nil && i >= 0
		if i >= 0 {
			s.waiting = slices.Delete(s.waiting, i, i+1)
		}
		alone := s.client == nil
		if open && alone {
			s.client = c
			_ = c.SetReadDeadline(time.Time{})
		}
		s.mu.Unlock()
		switch {
		case open && alone:
			s.serve(c, r, first)
		case open:
			refuse(c, r, first)
		}
	})
}

// from says where a connection comes from, if its address tells: that of a unix
// socket's client does not.
func from(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return ", from " + a.IP.String()
	}
	return ""
}

// greet reads up to gdb's first packet, whole or damaged.
func greet(r *bufio.Reader) (first received, err error) {
	for {
		body, err := readPacket(r)
		if err != nil && !errors.Is(err, errChecksum) {
			return received{}, err
		}
		if err != nil || !isByte(body) {
			return received{body, err}, nil
		}
	}
}

// refuse tells a second gdb that there is one already. gdb shows such a text when
// it is the answer to vMustReplyEmpty, which comes early; to its questions before
// there is no answer that it would show.
func refuse(c net.Conn, r *bufio.Reader, p received) {
	_ = c.SetDeadline(time.Now().Add(refuseFor))
	out := &conn{w: c, acks: true}
	for {
		if p.err != nil {
			return
		}
		if !isByte(p.body) {
			answer := unknown
			if !bytes.HasPrefix(p.body, []byte("q")) {
				answer = []byte("E.another gdb debugs this machine; detach it first")
			}
			if out.acknowledge(true) != nil || out.send(answer) != nil {
				return
			}
		}
		p.body, p.err = readPacket(r)
	}
}

// refuseFor is how long a second gdb has to read that.
const refuseFor = time.Second

// serve is a debugging session, which begins with a packet that has come already.
func (s *Server) serve(c net.Conn, r *bufio.Reader, first received) {
	s.log.Info("gdb has connected", "from", c.RemoteAddr())
	s.target.Attach()
	session := &session{Server: s, out: conn{w: c, acks: true}}
	err := session.run(r, first)
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
