package explore

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

// connections keeps the number of connections within bounds, and the page reachable
// while others hold connections: every user of this computer can make them. One
// that has not shown the token yet gives way to a new one: the oldest of the user
// that has most of them. So nobody's connections make those of others go.
type connections struct {
	net.Listener
	mu        sync.Mutex
	known     int           // connections that have shown the token
	strangers []*connection // the others, the oldest first
}

// Limits of connections, of those with the token and of the others.
const (
	maxKnown     = 32
	maxStrangers = 64
)

// connection is one of them.
type connection struct {
	net.Conn
	of    *connections
	user  string // whose process is at the other end; "" for not known, yet
	known bool
	gone  bool
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := &connection{Conn: conn, of: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.strangers) >= maxStrangers {
		identify(c.strangers)
		for len(c.strangers) > maxStrangers/2 {
			c.drop()
		}
	}
	c.strangers = append(c.strangers, n)
	return n, nil
}

// drop closes a connection: the oldest of whom has most.
func (c *connections) drop() {
	have := map[string]int{}
	for _, s := range c.strangers {
		have[s.user]++
	}
	for i, s := range c.strangers {
		if have[s.user] == most(have) {
			c.strangers = append(c.strangers[:i], c.strangers[i+1:]...)
			s.gone = true
			s.Conn.Close()
			return
		}
	}
}

func most(have map[string]int) int {
	n := 0
	for _, h := range have {
		n = max(n, h)
	}
	return n
}

// Close implements net.Conn.
func (n *connection) Close() error {
	n.of.mu.Lock()
	n.leave()
	n.of.mu.Unlock()
	return n.Conn.Close()
}

// leave takes the connection off the books.
func (n *connection) leave() {
	switch {
	case n.gone:
		return
	case n.known:
		n.of.known--
	default:
		for i, s := range n.of.strangers {
			if s == n {
				n.of.strangers = append(n.of.strangers[:i], n.of.strangers[i+1:]...)
				break
			}
		}
	}
	n.gone = true
}

// show notes that the token was shown on a connection. It is false when there are
// too many of these.
func (n *connection) show() bool {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	if n.known || n.gone {
		return n.known
	}
	if n.of.known >= maxKnown {
		return false
	}
	n.leave()
	n.gone, n.known = false, true
	n.of.known++
	return true
}

// connKey is where a request's context has its connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// admitted tells whether a request, which has shown the token, may be answered.
func admitted(r *http.Request) bool {
	n, ok := r.Context().Value(connKey{}).(*connection)
	return !ok || n.show()
}

// identify finds out whose process is at the other end of each connection: the
// kernel lists the sockets with their users (Documentation/networking/proc_net_tcp.rst).
func identify(all []*connection) {
	wanted := map[string]*connection{}
	for _, n := range all {
		if n.user == "" {
			wanted[inTable(n.RemoteAddr())+" "+inTable(n.LocalAddr())] = n
		}
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(io.LimitReader(f, maxTable))
		for lines.Scan() {
			if words := strings.Fields(lines.Text()); len(words) > 7 {
				if n := wanted[words[1]+" "+words[2]]; n != nil {
					n.user = words[7]
				}
			}
		}
		f.Close()
	}
}

// maxTable is how much of the kernel's table is read, in bytes.
const maxTable = 4 << 20

// inTable is an address as the kernel's table has it: words of 32 bits in the order
// of the processor, and the port.
func inTable(addr net.Addr) string {
	a, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := a.IP.To16()
	if v4 := a.IP.To4(); v4 != nil {
		ip = v4
	}
	var b strings.Builder
	for ; len(ip) >= 4; ip = ip[4:] {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(ip))
	}
	return fmt.Sprintf("%s:%04X", b.String(), a.Port)
}
