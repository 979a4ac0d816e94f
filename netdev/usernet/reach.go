package usernet

import (
	"net"
	"net/netip"
	"slices"

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

// private are addresses of networks that are not the Internet: the user's own, in
// which machines trust each other, those of providers, and special ones. RFC 1918,
// RFC 6598, RFC 6890.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
}

// reach is where a guest may connect to: all of the Internet that the host reaches,
// but not the host itself, unless some of its ports are open, and no private network,
// unless it is allowed.
type reach struct {
	loopback []netdev.PortRange
	allow    []netip.Prefix
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
	case never(ip):
		return at, false
	case (ip.IsLinkLocalUnicast() || within(private, ip)) && !within(r.allow, ip):
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

// never reports whether an address stands for this host, or for no single one. At
// the link-local ones, which can be allowed, clouds give away the host's secrets.
// RFC 6890.
func never(ip netip.Addr) bool {
	b := ip.As4()
	return b[0] == 0 || ip.IsLoopback() || b[0] >= 224 // multicast, reserved, broadcast
}

func within(networks []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ip) })
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
