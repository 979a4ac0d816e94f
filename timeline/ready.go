package timeline

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Condition is what makes a guest ready: one of three.
type Condition struct {
	Console string // a text on its console
	TCP     string // an address that answers
	Marker  *uint8 // a value written to port 0x80
}

// ParseCondition reads "console:TEXT", "tcp:HOST:PORT" or "marker:NUMBER".
func ParseCondition(s string) (Condition, error) {
	kind, value, _ := strings.Cut(s, ":")
	switch kind {
	case "console":
		if value == "" || len(value) > maxLine || strings.ContainsAny(value, "\n\r") {
			return Condition{}, fmt.Errorf("a text of one line is wanted, as in console:login")
		}
		return Condition{Console: value}, nil
	case "tcp":
		if _, _, err := net.SplitHostPort(value); err != nil {
			return Condition{}, fmt.Errorf("an address is wanted, as in tcp:127.0.0.1:8080")
		}
		return Condition{TCP: value}, nil
	case "marker":
		n, err := strconv.ParseUint(value, 0, 8)
		if err != nil {
			return Condition{}, fmt.Errorf("a number up to 255 is wanted, as in marker:0x41")
		}
		m := uint8(n)
		return Condition{Marker: &m}, nil
	}
	return Condition{}, fmt.Errorf("choose console:TEXT, tcp:HOST:PORT or marker:NUMBER")
}

func (c Condition) String() string {
	switch {
	case c.Console != "":
		return "console:" + c.Console
	case c.TCP != "":
		return "tcp:" + c.TCP
	case c.Marker != nil:
		return fmt.Sprintf("marker:%d", *c.Marker)
	}
	return ""
}

// How often and how long a TCP port is asked. A port of a network that vmm
// provides accepts connections before the guest is there and lets them wait, so
// that a new attempt does not wait for the old ones.
const (
	askEvery = 10 * time.Millisecond
	askFor   = time.Second
	askMost  = 64 // at a time
)

// WaitTCP marks Ready when a TCP port answers: when it sends something, after
// it has been sent the line of an HTTP request. Every server that speaks first,
// or HTTP, does that, and most others complain. It returns when ctx is done or
// the port has answered.
func (r *Recorder) WaitTCP(ctx context.Context, addr string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	slots := make(chan struct{}, askMost)
	for {
		select {
		case slots <- struct{}{}:
			go func() {
				if answers(ctx, addr) {
					r.Mark(Ready, FromVMM)
					cancel()
				}
				<-slots
			}()
		default:
		}
		select {
		case <-ctx.Done():
			// Each attempt ends with ctx.
			for range askMost {
				slots <- struct{}{}
			}
			return
		case <-tick.C:
		}
	}
}

// answers asks once.
func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write([]byte("HEAD / HTTP/1.0\r\n\r\n")); err != nil {
		return false
	}
	n, _ := conn.Read(make([]byte, 1))
	return n == 1
}
