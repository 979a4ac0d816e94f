package usernet

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vmm/netdev"
)

// The addresses of a user's network, as in QEMU's: the gateway, which is the DHCP
// and DNS server too; the host's loopback; the guest.
var (
	subnet    = netip.MustParsePrefix("10.0.2.0/24")
	gatewayIP = netip.MustParseAddr("10.0.2.2")
	hostIP    = netip.MustParseAddr("10.0.2.4")
	guestIP   = netip.MustParseAddr("10.0.2.15")
)

// reach is where a guest may connect to: all that the host reaches through its
// network, but not the host itself, unless some of its ports are open.
type reach struct {
	loopback []netdev.PortRange
	// kind asks the host what kind of address one is: routeKind, but for tests.
	kind func(netip.Addr) (int, error)
}

func (r reach) open(port uint16) bool {
	for _, p := range r.loopback {
		if p.Contains(port) {
			return true
		}
	}
	return false
}

// target is the address on the host for one that the guest asks for. It returns
// false where the guest may not go.
func (r reach) target(at netip.AddrPort) (netip.AddrPort, bool) {
	ip, port := at.Addr().Unmap(), at.Port()
	switch {
	case ip == hostIP:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), r.open(port)
	case subnet.Contains(ip):
		// Nobody is there. The host may have another network of these numbers.
		return at, false
	case special(ip):
		return at, false
	}
	kind, err := r.kind(ip)
	at = netip.AddrPortFrom(ip, port)
	switch {
	case err != nil:
		return at, false
	case kind == unix.RTN_LOCAL:
		return at, r.open(port)
	}
	return at, kind == unix.RTN_UNICAST
}

// special reports whether an address stands for this host, for all hosts of a link
// or for no single one. At the link-local ones, clouds give away the host's
// secrets. RFC 6890.
func special(ip netip.Addr) bool {
	b := ip.As4()
	return b[0] == 0 || ip.IsLoopback() || ip.IsLinkLocalUnicast() || b[0] >= 224 // multicast, reserved, broadcast
}

// routeKind is what the host's routing tables say of an address: unix.RTN_LOCAL
// for one of the host's own, whichever interface has it.
func routeKind(ip netip.Addr) (int, error) {
	routes, err := netlink.RouteGet(net.IP(ip.AsSlice()))
	if err != nil || len(routes) == 0 {
		return 0, err
	}
	return routes[0].Type, nil
}
