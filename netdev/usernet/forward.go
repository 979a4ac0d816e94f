package usernet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"vmm/netdev"
)

// forward listens on the host for what is to be led to the guest.
func (g *gateway) forward(f netdev.Forward) error {
	var err error
	if f.UDP {
		var c *net.UDPConn
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(f.Host)); err == nil {
			go g.forwardUDP(c, f.Port)
		}
	} else {
		var l *net.TCPListener
		if l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(f.Host)); err == nil {
			go g.forwardTCP(l, f.Port)
		}
	}
	if err == nil {
		return nil
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("forward from %s: %w; choose another address or port", f.Host, err)
}

// guest is a port of the guest's.
func guest(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(guestIP.As4()), Port: port}
}

// forwardTCP leads connections to the guest. One too many is closed.
func (g *gateway) forwardTCP(l *net.TCPListener, port uint16) {
	for {
		far, err := l.AcceptTCP()
		if err != nil { // no more files, say; perhaps later
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !g.connections.admit() {
			reject(far)
			continue
		}
		go func() {
			defer g.connections.leave()
			defer far.Close()
			var queue waiter.Queue
			endpoint, err := g.dial(&queue, guest(port))
			if err != nil {
				reject(far)
				return
			}
			g.connections.carry(endpoint, &queue, far)
		}()
	}
}

// reject closes a connection with a reset, for one that was not made.
func reject(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// dial connects to the guest.
func (g *gateway) dial(queue *waiter.Queue, to tcpip.FullAddress) (tcpip.Endpoint, error) {
	endpoint, terr := g.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, queue)
	if terr != nil {
		return nil, check(terr)
	}
	entry, changed := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	terr = endpoint.Connect(to)
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		late := time.NewTimer(dialTimeout)
		defer late.Stop()
		select {
		case <-changed:
			terr = endpoint.LastError()
		case <-late.C:
			terr = &tcpip.ErrTimeout{}
		}
	}
	if terr != nil {
		endpoint.Abort()
		return nil, check(terr)
	}
	return endpoint, nil
}

// forwardUDP leads datagrams to the guest, each sender's in a flow of its own.
func (g *gateway) forwardUDP(c *net.UDPConn, port uint16) {
	var mu sync.Mutex
	senders := map[netip.AddrPort]*flow{}
	begin := func(from netip.AddrPort) *flow {
		f := &flow{}
		f.toHost = func(b []byte) error {
			_, err := c.WriteToUDPAddrPort(b, from)
			return lasting(err)
		}
		f.done = func() {
			mu.Lock()
			defer mu.Unlock()
			if senders[from] == f {
				delete(senders, from)
			}
		}
		var terr tcpip.Error
		if f.endpoint, terr = g.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &f.queue); terr != nil {
			return nil
		}
		if terr = f.endpoint.Connect(guest(port)); terr != nil {
			f.endpoint.Close()
			return nil
		}
		return f
	}
	_ = receive(c, func(b []byte, from netip.AddrPort) {
		mu.Lock()
		f := senders[from]
		mu.Unlock()
		if f == nil {
			if f = begin(from); f == nil {
				return
			}
			mu.Lock()
			senders[from] = f
			mu.Unlock()
			g.flows.add(f)
		}
		f.toGuest(b)
	})
}
