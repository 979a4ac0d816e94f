package usernet

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// maxRSS is what docs/security.md promises of the network's process, in bytes.
const maxRSS = 384 << 20

// A guest that makes 10,000 connections gets as many as there may be, the others
// are refused, and when the first are closed there is room again. It sends all
// that the network takes to a server that never reads.
func TestTenThousandConnections(t *testing.T) {
	g := newTestGuest(t, "loopback:7777-7779")
	before, files := g.rss(t), g.files(t)
	to := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(hostIP, port) }
	var mu sync.Mutex
	var open []*gonet.TCPConn
	var refused atomic.Int32
	var all sync.WaitGroup
	attempts := make(chan struct{})
	for range 50 { // at one time
		all.Go(func() {
			for range attempts {
				c, err := g.dial(to(deafPort))
				if err != nil {
					refused.Add(1)
					continue
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	for range 10_000 {
		attempts <- struct{}{}
	}
	close(attempts)
	all.Wait()
	if len(open) != maxConnections || refused.Load() != 10_000-maxConnections {
		t.Errorf("%d connections are open and %d refused; want %d open", len(open), refused.Load(), maxConnections)
	}
	idle := g.rss(t)

	// Fill them, until none has taken anything for a while.
	var sent atomic.Int64
	data := make([]byte, 64<<10)
	for _, c := range open {
		all.Go(func() {
			for {
				n, err := c.Write(data)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	for last := int64(-1); sent.Load() != last; time.Sleep(500 * time.Millisecond) {
		last = sent.Load()
	}
	full := g.rss(t)
	t.Logf("the network's process has %d MiB, with %d connections %d MiB, with all their buffers full %d MiB (the guest has sent %d MiB)",
		before>>20, len(open), idle>>20, full>>20, sent.Load()>>20)
	if full > maxRSS && !raceEnabled {
		t.Errorf("%d MiB of the host's memory; want %d at the most", full>>20, maxRSS>>20)
	}

	enough, err := gonet.DialUDP(g.Stack, nil, &tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(hostIP.As4()), Port: deafPort}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer enough.Close()
	if _, err := enough.Write([]byte("close all")); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for deadline := time.Now().Add(2 * lingerTimeout); ; time.Sleep(100 * time.Millisecond) {
		c, err := g.dial(to(openPort))
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no room for a connection after the others have been closed:", err)
		}
	}
	g.awaitFiles(t, files+1) // the flow's
}

// A reset by the guest ends a connection whose other end says nothing.
func TestReset(t *testing.T) {
	g := newTestGuest(t, "loopback:7779")
	files := g.files(t)
	if _, err := g.dial(netip.AddrPortFrom(hostIP, deafPort)); err != nil {
		t.Fatal(err)
	}

	for _, e := range g.RegisteredEndpoints() {
		e.Abort()
	}

	g.awaitFiles(t, files+1) // the server's end
}

// awaitFiles waits until the network has no more files open than before.
func (g *testGuest) awaitFiles(t *testing.T, want int) {
	t.Helper()
	n := 0
	for deadline := time.Now().Add(2 * lingerTimeout); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if n = g.files(t); n <= want {
			return
		}
	}
	t.Errorf("%d files are open; want %d as before", n, want)
}

// Of UDP flows, the one that has been idle for longest makes room for a new one.
func TestTenThousandFlows(t *testing.T) {
	g := newTestGuest(t, "loopback:7778")
	files := g.files(t)
	dial := func() *gonet.UDPConn {
		c, err := gonet.DialUDP(g.Stack, nil, &tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(hostIP.As4()), Port: openPort}, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	echo := func(c *gonet.UDPConn, text string) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, err := c.Read(b); err != nil || string(b[:n]) != text {
			t.Fatalf("%q, %v; want %q", b[:n], err, text)
		}
	}
	first := dial()
	echo(first, "first")
	for i := range 10_000 {
		g.raw(udp.ProtocolNumber, netip.AddrPortFrom(hostIP, openPort), uint16(1_000+i))
	}
	echo(dial(), "the last")
	if n := g.files(t); n > files+maxFlows+10 {
		t.Errorf("%d files are open for flows", n-files)
	}
	echo(first, "first again") // in a new flow
	t.Logf("the network's process has %d MiB", g.rss(t)>>20)
}

// A flow on which nothing has moved for long enough ends; one that is in use does
// not.
func TestIdleFlow(t *testing.T) {
	s := flows{all: map[*flow]struct{}{}}
	ended := make(chan struct{})
	f := &flow{flows: &s, ended: make(chan struct{}), endpoint: closedEndpoint{}, done: func() { close(ended) }}
	f.timer = time.NewTimer(0)
	s.all[f] = struct{}{}
	f.touch()

	f.expire()

	select {
	case <-ended:
		t.Fatal("a flow in use has ended")
	default:
	}
	f.used.Store(time.Now().Add(-flowIdle).UnixNano())
	f.expire()
	<-ended
	if len(s.all) != 0 {
		t.Errorf("%d flows", len(s.all))
	}
}

// closedEndpoint is one that can only be closed.
type closedEndpoint struct{ tcpip.Endpoint }

func (closedEndpoint) Close() {}

// More questions than can be asked at one time are dropped, and the rest answered.
func TestManyQuestions(t *testing.T) {
	g := newTestGuest(t)
	c, err := gonet.DialUDP(g.Stack, nil, &tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(gatewayIP.As4()), Port: 53}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	files := g.files(t)
	for i := range 5000 {
		_, _ = c.Write(question(uint16(i), fmt.Sprintf("name%d.example.com.", i)))
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 1500)
	for n := 0; ; {
		if _, err := c.Write(question(9, "host.vmm.internal.")); err != nil {
			t.Fatal(err)
		}
		if n, err = c.Read(b); err != nil {
			t.Fatal(err)
		}
		if a := parse(t, b[:n]); len(a.Answer) == 1 {
			break
		}
	}
	if n := g.files(t); n > files+4*maxQuestions {
		t.Errorf("%d files are open for questions", n-files)
	}
}

func question(id uint16, name string) []byte {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	m.Id = id
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func parse(t *testing.T, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}
