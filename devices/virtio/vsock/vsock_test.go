package vsock

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

const (
	all      = ^virtio.Features(0)
	guestCID = 5
	patience = 20 * time.Second
)

// guest is a driver that sends and receives packets.
type guest struct {
	*virtiotest.Driver
	t       testing.TB
	path    string
	buffers map[uint16]virtiotest.Buffer
	out     virtiotest.Buffer
}

func newDevice(t testing.TB) (*Device, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vsock")
	d, err := New(Config{CID: guestCID, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

func newGuest(t testing.TB) *guest {
	t.Helper()
	dev, path := newDevice(t)
	g := &guest{Driver: virtiotest.New(t, dev), t: t, path: path}
	g.out = g.Out(make([]byte, headerSize+bufferSize+1))
	g.setUp()
	return g
}

func (g *guest) setUp() {
	g.SetUp(all)
	g.buffers = map[uint16]virtiotest.Buffer{}
	for range 32 {
		g.offer(g.In(headerSize + 4096))
	}
}

func (g *guest) offer(b virtiotest.Buffer) {
	g.buffers[g.Rings[queueReceive].Add(b)] = b
	g.Kick(queueReceive)
}

// send sends a packet.
func (g *guest) send(h header, payload string) {
	g.t.Helper()
	h.len = uint32(len(payload))
	g.sendRaw(h, payload)
}

func (g *guest) sendRaw(h header, payload string) {
	g.t.Helper()
	var b [headerSize]byte
	h.put(&b)
	out := g.out
	out.Data = out.Data[:copy(out.Data, b[:])+copy(out.Data[headerSize:], payload)]
	g.Do(queueTransmit, out)
}

// receive waits for a packet.
func (g *guest) receive() (header, string) {
	g.t.Helper()
	head, n := g.Wait(queueReceive)
	b := g.buffers[head]
	if n < headerSize {
		g.t.Fatalf("a packet of %d bytes", n)
	}
	h := parseHeader((*[headerSize]byte)(b.Data))
	if h.len != n-headerSize {
		g.t.Fatalf("a packet of %d bytes says %d", n-headerSize, h.len)
	}
	payload := string(b.Data[headerSize:n])
	g.offer(b)
	return h, payload
}

// expect receives a packet of a kind, and passes over credit updates.
func (g *guest) expect(op operation) (header, string) {
	g.t.Helper()
	for {
		h, payload := g.receive()
		if h.op == op {
			return h, payload
		}
		if h.op != opCreditUpdate {
			g.t.Fatalf("operation %d; want %d", h.op, op)
		}
	}
}

// stream is a connection as the guest sees it.
type stream struct {
	g *guest
	header
}

func (g *guest) stream(guestPort, hostPort uint32) *stream {
	return &stream{g, header{
		srcCID: guestCID, dstCID: hostCID, srcPort: guestPort, dstPort: hostPort,
		kind: kindStream, bufAlloc: 1 << 20,
	}}
}

func (s *stream) send(op operation, payload string) {
	s.g.t.Helper()
	s.op = op
	s.g.send(s.header, payload)
}

func (s *stream) shutdown(flags uint32) {
	s.g.t.Helper()
	h := s.header
	h.op, h.flags = opShutdown, flags
	s.g.send(h, "")
}

// listenAt listens where the guest's connections to a port of the host go.
func (g *guest) listenAt(port uint32) *net.UnixListener {
	g.t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("%s_%d", g.path, port), Net: "unix"})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { l.Close() })
	return l
}

// out connects the guest to a program of the host.
func (g *guest) dialHost(l *net.UnixListener, guestPort, hostPort uint32) (*stream, *net.UnixConn) {
	g.t.Helper()
	s := g.stream(guestPort, hostPort)
	s.send(opRequest, "")
	h, _ := g.expect(opResponse)
	if h.srcCID != hostCID || h.dstCID != guestCID || h.srcPort != hostPort || h.dstPort != guestPort || h.bufAlloc == 0 {
		g.t.Errorf("response %+v", h)
	}
	c, err := l.AcceptUnix()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return s, c
}

// dialGuest connects a program of the host to the guest.
func (g *guest) dialGuest(port uint32) (*stream, *net.UnixConn) {
	g.t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: g.path, Net: "unix"})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "CONNECT %d\n", port)
	h, _ := g.expect(opRequest)
	if h.srcCID != hostCID || h.dstPort != port || h.srcPort < firstPort {
		g.t.Errorf("request %+v", h)
	}
	s := g.stream(port, h.srcPort)
	s.send(opResponse, "")
	if line, err := readLine(c); err != nil || line != fmt.Sprintf("OK %d\n", h.srcPort) {
		g.t.Fatalf("the host is told %q, %v", line, err)
	}
	return s, c
}

// readLine reads a line and nothing behind it.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := r.Read(b); err != nil {
			return string(line), err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return string(line), nil
		}
	}
}

func readN(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if n, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("%d bytes, %v; want %d", n, err, len(b))
	}
	return string(b)
}

func TestConfiguration(t *testing.T) {
	g := newGuest(t)
	if got := g.Config(0, 8); !bytes.Equal(got, []byte{guestCID, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("configuration % x", got)
	}
	for _, cid := range []uint32{0, 1, 2, 1<<32 - 1} {
		if d, err := New(Config{CID: cid, Path: g.path + "x"}); err == nil {
			d.Close()
			t.Errorf("a guest has the CID %d", cid)
		}
	}
}

// What the host sends and then what the guest does, from either side.
func TestConnections(t *testing.T) {
	for name, connect := range map[string]func(*guest) (*stream, *net.UnixConn){
		"of the guest": func(g *guest) (*stream, *net.UnixConn) { return g.dialHost(g.listenAt(52), 1000, 52) },
		"of the host":  func(g *guest) (*stream, *net.UnixConn) { return g.dialGuest(52) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			s, c := connect(g)
			s.send(opData, "from the guest")
			if got := readN(t, c, 14); got != "from the guest" {
				t.Errorf("the host reads %q", got)
			}
			fmt.Fprint(c, "from the host")
			if h, got := g.expect(opData); got != "from the host" || h.fwdCnt != 14 {
				t.Errorf("the guest reads %q, forwarded %d", got, h.fwdCnt)
			}
			// The host is done sending, and still receives.
			_ = c.CloseWrite()
			if h, _ := g.expect(opShutdown); h.flags != noSend {
				t.Errorf("shutdown flags %d", h.flags)
			}
			s.send(opData, "more")
			if got := readN(t, c, 4); got != "more" {
				t.Errorf("the host reads %q", got)
			}
			// So is the guest, and closes.
			s.shutdown(noSend)
			if n, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the host reads %d, %v; want the end", n, err)
			}
			s.shutdown(noSend | noReceive)
			for {
				h, _ := g.receive()
				if h.op == opReset {
					break
				}
				if h.op != opShutdown { // that the host, too, is done both ways
					t.Fatalf("operation %d", h.op)
				}
			}
		})
	}
}

// The host closes: the guest learns that nobody receives.
func TestHostCloses(t *testing.T) {
	g := newGuest(t)
	s, c := g.dialGuest(52)
	fmt.Fprint(c, "bye")
	c.Close()
	if _, got := g.expect(opData); got != "bye" {
		t.Errorf("the guest reads %q", got)
	}
	for flags := uint32(0); flags != noSend|noReceive; {
		h, _ := g.expect(opShutdown)
		flags |= h.flags
	}
	s.send(opReset, "")
	s.send(opData, "into the void")
	g.expect(opReset)
}

// The guest closes before the host has read everything: nothing is lost.
func TestGuestCloses(t *testing.T) {
	g := newGuest(t)
	s, c := g.dialGuest(52)
	data := strings.Repeat("0123456789abcdef", bufferSize/16)
	s.send(opData, data)
	s.shutdown(noSend | noReceive)
	if got := readN(t, c, len(data)); got != data {
		t.Error("the host reads something else")
	}
	g.expect(opReset)
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

func TestRefusals(t *testing.T) {
	g := newGuest(t)
	ask := func(name string, change func(*header)) {
		t.Helper()
		s := g.stream(1000, 99)
		s.op = opRequest
		change(&s.header)
		g.send(s.header, "")
		h, _ := g.expect(opReset)
		if h.dstPort != s.srcPort || h.srcPort != s.dstPort {
			t.Errorf("%s: %+v", name, h)
		}
	}
	ask("nobody listens", func(*header) {})
	ask("another host", func(h *header) { h.dstCID = 7 })
	ask("packets that keep their bounds", func(h *header) { h.kind = 2 })
	ask("data without a connection", func(h *header) { h.op = opData })
	ask("no such operation", func(h *header) { h.op = 99 })

	// The guest refuses the host.
	c, err := net.Dial("unix", g.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "CONNECT 7\n")
	h, _ := g.expect(opRequest)
	g.stream(7, h.srcPort).send(opReset, "")
	if line, err := readLine(c); err != io.EOF || line != "" {
		t.Errorf("the host is told %q, %v; want the end", line, err)
	}
	// What is no greeting.
	for _, line := range []string{"GET / HTTP/1.1\r\n", "CONNECT x\n", "CONNECT 4294967296\n", "CONNECT 11111111111111111111"} {
		c, err := net.Dial("unix", g.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, line)
		if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("%q: %v; want the end", line, err)
		}
		c.Close()
	}
}

// A guest that breaks the rules of a connection loses it.
func TestBrokenRules(t *testing.T) {
	g := newGuest(t)
	l := g.listenAt(52)
	for i, breakRule := range map[uint32]func(*stream){
		1: func(s *stream) { s.send(opRequest, "") },
		2: func(s *stream) { s.send(opResponse, "") },
		3: func(s *stream) { s.op = opData; h := s.header; h.len = 10; g.sendRaw(h, "short") },
		4: func(s *stream) { s.send(opData, strings.Repeat("x", bufferSize+1)) },
		5: func(s *stream) { s.shutdown(noSend); s.send(opData, "x") },
		6: func(s *stream) { s.send(99, "") },
		7: func(s *stream) { // more than there is room for, for a host that does not read
			for range 2 {
				s.send(opData, strings.Repeat("x", bufferSize))
			}
		},
	} {
		s, c := g.dialHost(l, i, 52)
		breakRule(s)
		g.expect(opReset)
		c.Close()
	}
}

// The host does not send more than the guest has room for.
func TestCredit(t *testing.T) {
	g := newGuest(t)
	s, c := g.dialGuest(52)
	s.bufAlloc = 1000
	s.send(opCreditUpdate, "")
	go func() { _, _ = c.Write(make([]byte, 2500)) }()
	got := uint32(0)
	for _, want := range []uint32{1000, 2000, 2500} {
		for got < want {
			h, _ := g.expect(opData)
			got += h.len
		}
		time.Sleep(10 * time.Millisecond)
		if _, _, ok := g.Rings[queueReceive].Take(); ok || got != want {
			t.Fatalf("%d bytes sent; want %d", got, want)
		}
		s.fwdCnt = got
		s.send(opCreditUpdate, "")
	}
	s.send(opCreditRequest, "")
	g.expect(opCreditUpdate)
}

// Much data on many connections at once, both ways.
func TestStreams(t *testing.T) {
	const streams, size = 50, 1 << 20
	g := newGuest(t)
	l := g.listenAt(52)
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)
	want := sha256.Sum256(data)
	var hosts sync.WaitGroup
	type state struct {
		*stream
		sent, got int
		credit    uint32 // fwdCnt of the host
	}
	guests := map[uint32]*state{}
	var conns []*net.UnixConn
	for i := range uint32(streams) {
		s, c := g.dialHost(l, 1000+i, 52)
		guests[1000+i] = &state{stream: s}
		conns = append(conns, c)
	}
	for _, c := range conns {
		hosts.Go(func() {
			go func() {
				_, _ = c.Write(data)
				_ = c.CloseWrite()
			}()
			h := sha256.New()
			if n, err := io.Copy(h, c); n != size || err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
				t.Errorf("the host received %d bytes, %v", n, err)
			}
		})
	}
	sums := map[uint32]io.Writer{}
	hash := map[uint32]func() []byte{}
	for port := range guests {
		h := sha256.New()
		sums[port], hash[port] = h, func() []byte { return h.Sum(nil) }
	}
	done := 0
	for deadline := time.Now().Add(60 * time.Second); done < streams; {
		if time.Now().After(deadline) {
			t.Fatal("too slow")
		}
		for _, s := range guests {
			// As much as there is room for at the host.
			n := min(size-s.sent, bufferSize-int(uint32(s.sent)-s.credit), 60000)
			if n > 0 {
				s.send(opData, string(data[s.sent:s.sent+n]))
				if s.sent += n; s.sent == size {
					s.shutdown(noSend)
				}
			} else {
				s.send(opCreditUpdate, "")
			}
		}
		for {
			head, n, ok := g.Rings[queueReceive].Take()
			if !ok {
				break
			}
			b := g.buffers[head]
			h := parseHeader((*[headerSize]byte)(b.Data))
			s := guests[h.dstPort]
			s.credit = h.fwdCnt
			_, _ = sums[h.dstPort].Write(b.Data[headerSize:n])
			s.got += int(h.len)
			s.fwdCnt += h.len
			if h.op == opShutdown && h.flags == noSend {
				done++
			}
			g.offer(b)
			if h.op == opReset {
				t.Fatal("a connection is reset")
			}
		}
	}
	hosts.Wait()
	for port, s := range guests {
		if s.got != size || !bytes.Equal(hash[port](), want[:]) {
			t.Errorf("the guest received %d bytes", s.got)
		}
	}
}

// A reset of the device ends the connections, and a driver that comes after it
// makes new ones.
func TestReset(t *testing.T) {
	g := newGuest(t)
	l := g.listenAt(52)
	for range 20 {
		_, a := g.dialHost(l, 1, 52)
		_, b := g.dialGuest(9)
		_, _ = a.Write(make([]byte, 100000))
		g.Reset()
		for _, c := range []net.Conn{a, b} {
			if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
				t.Error("a connection outlives the reset")
			}
		}
		// Without a driver nobody accepts.
		c, err := net.Dial("unix", g.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "CONNECT 9\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil || os.IsTimeout(err) {
			t.Errorf("without a driver: %v", err)
		}
		c.Close()
		g.setUp()
	}
}

// There are only so many connections, and they can be had again.
func TestTooMany(t *testing.T) {
	g := newGuest(t)
	l := g.listenAt(52)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	for i := range uint32(maxConnections) {
		g.stream(i, 52).send(opRequest, "")
		g.expect(opResponse)
	}
	s := g.stream(maxConnections, 52)
	s.send(opRequest, "")
	g.expect(opReset)
	g.stream(7, 52).send(opReset, "")
	// Its place is free when it has ended, which the guest is not told.
	for end := time.Now().Add(patience); ; {
		s.send(opRequest, "")
		if h, _ := g.receive(); h.op == opResponse {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the place of a connection is not given to another")
		}
	}
}

func FuzzDevice(f *testing.F) {
	request := make([]byte, 80)
	copy(request, []byte{7, 0, 0, 63, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 52})
	f.Add(append(request, 3, 1, 1, 0, 40, 0))
	f.Fuzz(func(t *testing.T, script []byte) {
		dev, path := newDevice(t)
		l, err := net.Listen("unix", path+"_52")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); c.Close() }()
			}
		}()
		d := virtiotest.New(t, dev)
		d.Play(script)
		g := &guest{Driver: d, t: t, path: path}
		g.out = g.Out(make([]byte, 4096))
		g.setUp()
		s := g.stream(1, 52)
		s.send(opRequest, "")
		g.expect(opResponse)
		s.send(opData, "alive")
		if _, got := g.expect(opData); got != "alive" {
			t.Errorf("%q; want an echo", got)
		}
	})
}
