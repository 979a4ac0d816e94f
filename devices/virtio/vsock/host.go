package vsock

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxGreetings is how many programs may be about to say which port they want.
const maxGreetings = 128

// accept takes connections from programs of the host until Close.
func (d *Device) accept() {
	room := make(chan struct{}, maxGreetings)
	for {
		c, err := d.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no more files, say; perhaps later
			time.Sleep(100 * time.Millisecond)
			continue
		}
		room <- struct{}{}
		d.accepts.Go(func() {
			defer func() { <-room }()
			d.greet(c)
		})
	}
}

// greetingTimeout is how long a program may take to say what it wants, and the
// guest to answer.
const greetingTimeout = 10 * time.Second

// greet reads which port the program wants and connects it.
func (d *Device) greet(c *net.UnixConn) {
	_ = c.SetReadDeadline(time.Now().Add(greetingTimeout))
	port, err := readPort(c)
	s := d.current()
	if err != nil || s == nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	s.connect(c, port)
}

// readPort reads a line "CONNECT port", and nothing after it.
func readPort(c net.Conn) (uint32, error) {
	const longest = len("CONNECT 4294967295\r\n")
	var line []byte
	for b := make([]byte, 1); len(line) < longest; {
		if _, err := c.Read(b); err != nil {
			return 0, err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			break
		}
	}
	word, number, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
	port, err := strconv.ParseUint(number, 10, 32)
	if word != "CONNECT" || err != nil {
		return 0, fmt.Errorf("vsock: %q instead of CONNECT and a port", line)
	}
	return uint32(port), nil
}

// dial connects to the program that listens at a port of the host. One that is
// slow to accept has a queue of a bounded length, and nothing says when there is
// room in it: so dial tries until the time is up that the guest has, too.
func (s *session) dial(c *conn) (*net.UnixConn, error) {
	dial := s.config.Dial
	if dial == nil {
		dial = func(port uint32) (*net.UnixConn, error) {
			return net.DialUnix("unix", nil, &net.UnixAddr{Name: fmt.Sprintf("%s_%d", s.config.Path, port), Net: "unix"})
		}
	}
	end := time.Now().Add(greetingTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		u, err := dial(c.id.host)
		if !errors.Is(err, unix.EAGAIN) || c.gone.Load() || time.Now().After(end) {
			return u, err
		}
		select {
		case <-time.After(wait):
		case <-s.stopped:
			return nil, err
		}
	}
}
