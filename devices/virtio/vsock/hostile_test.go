package vsock

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio/virtiotest"
)

// A program that accepts slowly gets all of a burst.
func TestBurst(t *testing.T) {
	const burst = 500
	g := newGuest(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: g.path + "_52"}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range burst {
			c, _, err := unix.Accept(fd)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { unix.Close(c) })
		}
	}()

	for i := range uint32(burst) {
		g.stream(i, 52).send(opRequest, "")
	}
	for range burst {
		g.expect(opResponse)
	}
	<-done
}

// Without anybody who listens, a guest reaches nothing, whatever it addresses.
func TestNoNetwork(t *testing.T) {
	g := newGuest(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	abstract, err := net.Listen("unix", "@"+g.path+"_53")
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	port := uint32(tcp.Addr().(*net.TCPAddr).Port)
	before := files(t)
	for _, cid := range []uint64{0, 1, 2, 3, 4, guestCID, 1<<32 - 1, 1 << 32, 1<<32 + 2, 1<<64 - 1} {
		for _, p := range []uint32{0, 1, 22, 53, port, 1 << 16, 1 << 30, 1<<32 - 1} {
			for _, kind := range []uint16{0, kindStream, 2, 3, 0xffff} {
				s := g.stream(1000, p)
				s.dstCID, s.kind = cid, kind
				s.send(opRequest, "")
				if h, _ := g.expect(opReset); h.srcCID != cid || h.srcPort != p {
					t.Errorf("CID %d, port %d, kind %d: %+v", cid, p, kind, h)
				}
			}
		}
	}
	for _, l := range []interface{ SetDeadline(time.Time) error }{tcp.(*net.TCPListener), abstract.(*net.UnixListener)} {
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond))
		if c, err := l.(net.Listener).Accept(); err == nil {
			c.Close()
			t.Errorf("the guest has reached %v", l.(net.Listener).Addr())
		}
	}
	awaitFiles(t, before)
}

func files(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func awaitFiles(t *testing.T, most int) {
	t.Helper()
	n := 0
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n = files(t); n <= most {
			return
		}
	}
	t.Errorf("%d files are open; want %d", n, most)
}

// flooded is a guest whose programs connect to one of the host that never reads.
func flooded(t *testing.T) *guest {
	g := newGuest(t)
	l := g.listenAt(52)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				<-stop
				c.Close()
			}()
		}
	}()
	return g
}

// The memory that a guest can have the device hold for its connections has a
// bound, which docs/security.md states.
func TestMemory(t *testing.T) {
	g := flooded(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sent, resets := 0, 0
	payload := strings.Repeat("x", 64<<10)
	for i := range uint32(maxConnections) {
		s := g.stream(i, 52)
		s.send(opRequest, "")
		for h := (header{}); h.op != opResponse || h.dstPort != i; h, _ = g.receive() {
		}
		for out, taken := uint32(0), uint32(0); out-taken < bufferSize; {
			n := min(bufferSize-(out-taken), uint32(len(payload)))
			s.send(opData, payload[:n])
			out += n
			sent += int(n)
			s.send(opCreditRequest, "")
			h, _ := g.receive()
			if h.op == opReset {
				resets++
				break // the request's reset follows
			}
			taken = h.fwdCnt
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	t.Logf("%d MiB sent, %d connections reset, %d MiB held", sent>>20, resets, held>>20)
	if held > 160<<20 {
		t.Errorf("%d MiB are held", held>>20)
	}
	if resets == 0 {
		t.Error("no connection is reset: the bound on all of them was not reached")
	}
}

// A guest that connects and resets without ever offering a buffer does not pile
// up goroutines or sockets.
func TestEndedConnectionsLeave(t *testing.T) {
	dev, path := newDevice(t)
	g := &guest{Driver: virtiotest.New(t, dev), t: t, path: path}
	g.out = g.Out(make([]byte, headerSize))
	g.SetUp(all) // and no buffers
	l := g.listenAt(52)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	before, goroutines := files(t), runtime.NumGoroutine()
	for i := range uint32(20_000) {
		s := g.stream(i, 52)
		s.send(opRequest, "")
		s.send(opReset, "")
		if n := runtime.NumGoroutine() - goroutines; n > 3*maxConnections {
			t.Fatalf("%d goroutines after %d connections", n, i)
		}
	}
	awaitFiles(t, before)
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines; %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

// A reset with data on the way in both directions ends all of it, and the next
// life of the device has none of it.
func TestResetInFlight(t *testing.T) {
	rounds := 100
	if n, err := strconv.Atoi(os.Getenv("VMM_RESETS")); err == nil {
		rounds = n
	}
	g := newGuest(t)
	l := g.listenAt(52)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 32<<10)
				for {
					if _, err := c.Write(b); err != nil {
						return
					}
					if _, err := c.Read(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	before, mark := files(t), g.Mark()
	for round := range rounds {
		for i := range uint32(4) {
			s := g.stream(i, 52)
			s.send(opRequest, "")
			s.send(opData, "early") // perhaps before it is open: a reset
		}
		if round%2 == 0 {
			g.receive()
		}
		g.Reset()
		g.Free(mark)
		g.setUp()
		// The first packet of this life is of this life.
		s := g.stream(uint32(round)+100, 53)
		s.send(opRequest, "")
		if h, _ := g.receive(); h.op != opReset || h.dstPort != s.srcPort {
			t.Fatalf("round %d: %+v; want a reset of port %d", round, h, s.srcPort)
		}
	}
	awaitFiles(t, before)
}
