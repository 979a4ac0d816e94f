package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/services/dns"
	"github.com/containers/gvisor-tap-vsock/pkg/services/forwarder"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
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

// The addresses in a network of user mode, as in QEMU's: the gateway, which is
// the DHCP and DNS server too; the host's loopback; the guest.
var (
	gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")
	gatewayIP  = net.IPv4(10, 0, 2, 2).To4()
	hostIP     = net.IPv4(10, 0, 2, 4).To4()
	guestIP    = net.IPv4(10, 0, 2, 15).To4()
	subnetMask = net.CIDRMask(24, 32)
)

const (
	nic = 1
	// Frames for the guest that wait for the wire.
	wireQueue = 1024
)

// gateway is the network: a TCP/IP stack that takes every connection of the
// guest for its own, and makes it again on the host. The stack is gVisor's, the
// services are those of gvisor-tap-vsock; not its switch, for there is one guest.
type gateway struct {
	stack *stack.Stack
	link  *channel.Endpoint
	wire  *wire
}

// newGateway starts the services. All of them last as long as the process.
func newGateway(w *wire, forwards []netdev.Forward) (*gateway, error) {
	g := &gateway{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		}),
		link: channel.New(wireQueue, netdev.UserMTU, gatewayMAC),
		wire: w,
	}
	// The guest's checksums are not looked at: it may leave them out. Those
	// for the guest are send's.
	g.link.LinkEPCapabilities |= stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	if err := g.configure(); err != nil {
		return nil, err
	}
	if err := g.serve(); err != nil {
		return nil, err
	}
	return g, g.forward(forwards)
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
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 8 << 20}
	buffers := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 8 << 20}
	subnet := tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(gatewayIP), PrefixLen: 24}.Subnet()
	err := errors.Join(
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &window)),
		check(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &buffers)),
		check(g.stack.CreateNIC(nic, ethernet.New(g.link))),
		check(g.stack.SetSpoofing(nic, true)),
		check(g.stack.SetPromiscuousMode(nic, true)),
	)
	for _, ip := range []net.IP{gatewayIP, hostIP} {
		err = errors.Join(err, check(g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddrFromSlice(ip).WithPrefix(),
		}, stack.AddressProperties{})))
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nic}})
	return err
}

// serve starts what the network offers: connections to the host's network, DNS
// and DHCP.
func (g *gateway) serve() error {
	nat := map[tcpip.Address]tcpip.Address{tcpip.AddrFromSlice(hostIP): tcpip.AddrFrom4([4]byte{127, 0, 0, 1})}
	var lock sync.Mutex // over nat, which does not change
	proxy{nat}.listen(g.stack)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, forwarder.UDP(g.stack, nat, &lock, false).HandlePacket)

	at := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(gatewayIP), Port: 53}
	packets, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	connections, err := gonet.ListenTCP(g.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	names, err := dns.New(patient{packets}, connections, []types.Zone{{
		Name:    "vmm.internal.",
		Records: []types.Record{{Name: "gateway", IP: gatewayIP}, {Name: "host", IP: hostIP}},
	}})
	if err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	go func() { _ = names.Serve() }()
	go func() { _ = names.ServeTCP() }()
	return g.serveDHCP()
}

// patient is a connection without deadlines, for a server that would look up
// every two seconds to see whether it should end. It ends with its connection,
// and an idle machine wakes nobody.
type patient struct{ net.PacketConn }

func (patient) SetReadDeadline(time.Time) error { return nil }

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
	reply, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(guestIP),
		dhcpv4.WithServerIP(gatewayIP),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gatewayIP)),
		dhcpv4.WithNetmask(subnetMask),
		dhcpv4.WithRouter(gatewayIP),
		dhcpv4.WithDNS(gatewayIP),
		dhcpv4.WithLeaseTime(uint32((24 * time.Hour).Seconds())),
		dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(netdev.UserMTU)}),
	)
	if err == nil {
		_, _ = conn.WriteTo(reply.ToBytes(), peer) // the client asks again
	}
}

// forward listens on the host for connections to the guest.
func (g *gateway) forward(all []netdev.Forward) error {
	forwards := forwarder.NewPortsForwarder(g.stack)
	for _, f := range all {
		protocol := types.TransportProtocol(types.TCP)
		if f.UDP {
			protocol = types.UDP
		}
		local, remote := f.Host.String(), fmt.Sprintf("%s:%d", guestIP, f.Port)
		if err := forwards.Expose(protocol, local, remote); err != nil {
			return fmt.Errorf("forward from %s: %w", local, err)
		}
	}
	return nil
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
