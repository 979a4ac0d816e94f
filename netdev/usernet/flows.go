package usernet

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxFlows is how many pairs of UDP addresses may be in use. One more takes
	// the place of the one that has been idle for longest.
	maxFlows = 1024
	// flowIdle is how long a flow lasts on which nothing moves. RFC 4787 §4.3.
	flowIdle = 2 * time.Minute
	// maxDatagram is the largest datagram, in bytes.
	maxDatagram = 65535
)

// datagrams are buffers for one datagram, for as long as it is on its way: a flow
// at rest has none.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// flows are the UDP flows of a guest, which has no connections to close.
type flows struct {
	reach reach
	link  *channel.Endpoint

	mu  sync.Mutex
	all map[*flow]struct{}
}

// flow is a pair of addresses between which datagrams go: an endpoint in the
// network, towards the guest, and something on the host.
type flow struct {
	flows    *flows
	endpoint tcpip.Endpoint
	queue    waiter.Queue
	toHost   func([]byte) error
	done     func() // lets go of what is on the host
	timer    *time.Timer
	used     atomic.Int64 // when, in nanoseconds since the epoch
	ended    chan struct{}
	end      sync.Once
}

// add begins to carry a flow, whose endpoint is there.
func (s *flows) add(f *flow) {
	f.flows, f.ended = s, make(chan struct{})
	f.touch()
	f.timer = time.AfterFunc(flowIdle, f.expire)
	s.mu.Lock()
	var oldest *flow
	if len(s.all) >= maxFlows {
		for o := range s.all {
			if oldest == nil || o.used.Load() < oldest.used.Load() {
				oldest = o
			}
		}
	}
	s.all[f] = struct{}{}
	s.mu.Unlock()
	if oldest != nil {
		oldest.close()
	}
	go f.carry()
}

func (f *flow) touch() { f.used.Store(time.Now().UnixNano()) }

// expire closes a flow that has been idle for long enough.
func (f *flow) expire() {
	if rest := flowIdle - time.Since(time.Unix(0, f.used.Load())); rest > 0 {
		f.timer.Reset(rest)
		return
	}
	f.close()
}

func (f *flow) close() {
	f.end.Do(func() {
		f.timer.Stop()
		close(f.ended)
		f.endpoint.Close()
		f.done()
		f.flows.mu.Lock()
		defer f.flows.mu.Unlock()
		delete(f.flows.all, f)
	})
}

// carry takes datagrams from the guest to the host.
func (f *flow) carry() {
	defer f.close()
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	for {
		if !f.take() {
			return
		}
		select {
		case <-readable:
		case <-f.ended:
			return
		}
	}
}

// take takes all datagrams to the host that are there. It returns false at the end
// of the flow.
func (f *flow) take() bool {
	b := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(b)
	for {
		w := tcpip.SliceWriter(b[:])
		result, err := f.endpoint.Read(&w, tcpip.ReadOptions{})
		if err != nil {
			_, wait := err.(*tcpip.ErrWouldBlock)
			_, refused := err.(*tcpip.ErrConnectionRefused) // the guest's port is closed: for now
			return wait || refused
		}
		f.touch()
		if f.toHost(b[:result.Count]) != nil {
			return false
		}
	}
}

// toGuest takes a datagram to the guest. One that finds no room is lost.
func (f *flow) toGuest(b []byte) {
	f.touch()
	if f.flows.link.NumQueued() > maxDatagrams {
		return
	}
	_, _ = f.endpoint.Write(bytes.NewReader(b), tcpip.WriteOptions{})
}

// accept begins a flow that a datagram of the guest's opens. It returns false
// where there is none to be, of which the guest is told by ICMP.
func (s *flows) accept(r *udp.ForwarderRequest) bool {
	to, ok := s.reach.target(addrPort(r.ID().LocalAddress, r.ID().LocalPort))
	if !ok {
		return false
	}
	far, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return false
	}
	f := &flow{done: func() { far.Close() }}
	f.toHost = func(b []byte) error {
		_, err := far.Write(b)
		return lasting(err)
	}
	var terr tcpip.Error
	if f.endpoint, terr = r.CreateEndpoint(&f.queue); terr != nil {
		far.Close()
		return false
	}
	s.add(f)
	go func() {
		defer f.close()
		_ = receive(far, func(b []byte, _ netip.AddrPort) { f.toGuest(b) })
	}()
	return true
}

// receive takes datagrams from a socket of the host until it is closed.
func receive(c *net.UDPConn, take func(b []byte, from netip.AddrPort)) error {
	for {
		if err := awaitDatagram(c); err != nil {
			return err
		}
		b := datagrams.Get().(*[maxDatagram]byte)
		n, from, err := c.ReadFromUDPAddrPort(b[:])
		if err == nil {
			take(b[:n], from)
		}
		datagrams.Put(b)
		if err = lasting(err); err != nil {
			return err
		}
	}
}

// awaitDatagram waits until there is something to read, an error perhaps.
func awaitDatagram(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// lasting is an error of a UDP socket, unless it is about a single datagram: that
// nobody has taken, say.
func lasting(err error) error {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
