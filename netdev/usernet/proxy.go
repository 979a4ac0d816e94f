package usernet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"vmm/netdev"
)

const (
	// Connections that the guest is making at one time.
	maxDialing  = 64
	dialTimeout = 30 * time.Second
	// copySize is what is moved from one end of a connection to the other at
	// once: what fits into a frame, with the headers of IPv4 and of TCP with
	// timestamps. A byte more would be a frame of its own.
	copySize = netdev.UserMTU - 20 - 32
)

// proxy makes the guest's TCP connections on the host.
type proxy struct {
	nat map[tcpip.Address]tcpip.Address // addresses that stand for others
}

func (p proxy) listen(s *stack.Stack) {
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, maxDialing, p.connect).HandlePacket)
}

// connect answers a connection of the guest once the host has made it too. The
// link's own addresses are not for a guest: at one of them, clouds give away the
// host's secrets.
func (p proxy) connect(r *tcp.ForwarderRequest) {
	id := r.ID()
	at := id.LocalAddress
	if host, ok := p.nat[at]; ok {
		at = host
	}
	ip := netip.AddrFrom4(at.As4())
	if ip.IsLinkLocalUnicast() {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var d net.Dialer
	far, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, id.LocalPort).String())
	if err != nil {
		r.Complete(true)
		return
	}
	defer far.Close()
	host, err := newStream(far.(*net.TCPConn))
	if err != nil {
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	endpoint, terr := r.CreateEndpoint(&queue)
	r.Complete(false)
	if terr != nil {
		return // the guest has given up
	}
	near := gonet.NewTCPConn(&queue, endpoint)
	defer near.Close()
	var both sync.WaitGroup
	both.Go(func() { pump(near, host) })
	both.Go(func() { pump(host, near) })
	both.Wait()
}

// half is an end of a connection, of which each direction can be closed.
type half interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// pump moves data until one end has no more.
func pump(to, from half) {
	// Only Read and Write: the shortcuts of TCP connections copy in pieces of
	// half the size.
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, copySize))
	_ = to.CloseWrite() // of one that is closed: it is closed
	_ = from.CloseRead()
}
