package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	sums "gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"vmm/netdev"
)

var gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")

const (
	nic = 1
	// Frames for the guest that wait for the wire. Those of TCP are among its
	// buffers; datagrams are lost when maxDatagrams wait, of 8 MiB at the most.
	wireQueue    = 1024
	maxDatagrams = 128
)

// gateway is the network: a TCP/IP stack that takes every connection of the
// guest for its own, and makes it again on the host. The stack is gVisor's.
type gateway struct {
	stack *stack.Stack
	link  *channel.Endpoint
	wire  *wire

	reach       reach
	connections *connections
	flows       flows
}

// newGateway starts the services. All of them last as long as the process.
func newGateway(w *wire, c netdev.UserConfig) (*gateway, error) {
	g := &gateway{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		}),
		link:        channel.New(wireQueue, netdev.UserMTU, gatewayMAC),
		wire:        w,
		reach:       reach{c.Loopback, c.Allow, routeKind},
		connections: newConnections(),
	}
	g.flows = flows{reach: g.reach, link: g.link, all: map[*flow]struct{}{}}
	// The guest's checksums are not looked at: it may leave them out. Those
	// for the guest are send's.
	g.link.LinkEPCapabilities |= stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	if err := g.configure(); err != nil {
		return nil, err
	}
	if err := g.serve(); err != nil {
		return nil, err
	}
	for _, f := range c.Forwards {
		if err := g.forward(f); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// check turns an error of the stack into one of Go.
func check(err tcpip.Error) error {
	if err != nil {
		return errors.New(err.String())
	}
	return nil
}

// configure gives the stack its card, addresses and routes. It answers for every
// address: the whole world is behind it.
func (g *gateway) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	recovery := tcpip.TCPRecovery(0) // its timers are work for each segment, and this wire loses none
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: slow.window, Max: fast.window}
	buffers := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: slow.window, Max: fast.window}
	// The wire delivers the last segment of a connection: nobody will ask for it
	// again, and the connection need not be kept.
	wait := tcpip.TCPTimeWaitTimeoutOption(0)
	network := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(gatewayIP.As4()), PrefixLen: subnet.Bits()}.Subnet()
	err := errors.Join(
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &window)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &buffers)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait)),
		check(g.stack.CreateNIC(nic, ethernet.New(g.link))),
		check(g.stack.SetSpoofing(nic, true)),
		check(g.stack.SetPromiscuousMode(nic, true)),
	)
	for _, ip := range []netip.Addr{gatewayIP, hostIP} {
		err = errors.Join(err, check(g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddrFrom4(ip.As4()).WithPrefix(),
		}, stack.AddressProperties{})))
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: network, NIC: nic}})
	return err
}

// serve starts what the network offers: connections to the host's network, DNS
// and DHCP.
func (g *gateway) serve() error {
	proxy{g.connections, g.reach}.listen(g.stack)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(g.stack, g.flows.accept).HandlePacket)
	if err := g.serveDNS(); err != nil {
		return err
	}
	return g.serveDHCP()
}

func (g *gateway) serveDHCP() error {
	var queue waiter.Queue
	endpoint, terr := g.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if terr != nil {
		return fmt.Errorf("DHCP: %w", check(terr))
	}
	endpoint.SocketOptions().SetBroadcast(true)
	if err := endpoint.Bind(tcpip.FullAddress{NIC: nic, Port: dhcpv4.ServerPort}); err != nil {
		endpoint.Close()
		return fmt.Errorf("DHCP: %w", check(err))
	}
	conn := gonet.NewUDPConn(&queue, endpoint)
	server, err := server4.NewServer("", nil, lease, server4.WithConn(conn))
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	go func() { _ = server.Serve() }()
	return nil
}

// lease answers the guest's DHCP client. There is one guest, and one address.
// RFC 2131 §4.3.
func lease(conn net.PacketConn, peer net.Addr, request *dhcpv4.DHCPv4) {
	answers := map[dhcpv4.MessageType]dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer,
		dhcpv4.MessageTypeRequest:  dhcpv4.MessageTypeAck,
	}
	kind, ok := answers[request.MessageType()]
	if !ok {
		return
	}
	gateway := net.IP(gatewayIP.AsSlice())
	reply, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(net.IP(guestIP.AsSlice())),
		dhcpv4.WithServerIP(gateway),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
		dhcpv4.WithNetmask(net.CIDRMask(subnet.Bits(), 32)),
		dhcpv4.WithRouter(gateway),
		dhcpv4.WithDNS(gateway),
		dhcpv4.WithLeaseTime(uint32((24 * time.Hour).Seconds())),
		dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(netdev.UserMTU)}),
	)
	if err == nil {
		_, _ = conn.WriteTo(reply.ToBytes(), peer) // the client asks again
	}
}

// receive takes frames of the guest to the stack.
func (g *gateway) receive() {
	frame := make([]byte, header.EthernetMinimumSize+65535)
	for {
		n, err := g.wire.receive(frame)
		if err != nil {
			return // closed
		}
		if n < header.EthernetMinimumSize {
			continue
		}
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame[:n])})
		g.link.InjectInbound(header.Ethernet(frame[:n]).Type(), packet)
		packet.DecRef()
	}
}

// send takes frames of the stack to the guest.
func (g *gateway) send() {
	for {
		packet := g.link.ReadContext(context.Background())
		left := g.checksum(packet)
		err := g.wire.send(packet.AsSlices(), left)
		packet.DecRef()
		if err != nil {
			return // closed
		}
	}
}

// checksum puts a checksum into a frame for the guest, or only its start where
// the guest does not need more: its wire is memory, which loses nothing. What
// is not TCP has all it needs: of UDP over IPv4 the checksum may be 0, for none.
// RFC 9293 §3.1, RFC 768.
func (g *gateway) checksum(packet *stack.PacketBuffer) *checksum {
	if packet.TransportProtocolNumber != tcp.ProtocolNumber {
		return nil
	}
	ip, segment := header.IPv4(packet.NetworkHeader().Slice()), header.TCP(packet.TransportHeader().Slice())
	sum := header.PseudoHeaderChecksum(tcp.ProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), ip.PayloadLength())
	segment.SetChecksum(0)
	if g.wire.partial.Load() {
		segment.SetChecksum(sum)
		start := len(packet.LinkHeader().Slice()) + len(ip)
		return &checksum{start: start, offset: header.TCPChecksumOffset}
	}
	segment.SetChecksum(^segment.CalculateChecksum(sums.Combine(sum, packet.Data().Checksum())))
	return nil
}
