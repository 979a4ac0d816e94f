package usernet

import (
	"context"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// Connections that the guest is making at one time.
	maxDialing  = 64
	dialTimeout = 30 * time.Second
)

// proxy makes the guest's TCP connections on the host.
type proxy struct {
	connections *connections
	reach       reach
}

func (p proxy) listen(s *stack.Stack) {
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, maxDialing, p.connect).HandlePacket)
}

// addrPort is an address of the stack's.
func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(a.As4()), port)
}

// connect answers a connection of the guest once the host has made it too. One
// that it may not make, or that is one too many, is refused.
func (p proxy) connect(r *tcp.ForwarderRequest) {
	to, ok := p.reach.target(addrPort(r.ID().LocalAddress, r.ID().LocalPort))
	if !ok || !p.connections.admit() {
		r.Complete(true)
		return
	}
	defer p.connections.leave()
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var d net.Dialer
	far, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		r.Complete(true)
		return
	}
	defer far.Close()
	var queue waiter.Queue
	endpoint, terr := r.CreateEndpoint(&queue)
	r.Complete(false)
	if terr != nil {
		return // the guest has given up
	}
	p.connections.carry(endpoint, &queue, far.(*net.TCPConn))
}
