package usernet

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"vmm/netdev"
)

func TestTarget(t *testing.T) {
	kinds := map[string]int{"192.0.2.1": unix.RTN_LOCAL, "192.0.2.255": unix.RTN_BROADCAST, "192.0.2.9": unix.RTN_UNICAST, "192.0.2.13": unix.RTN_BLACKHOLE}
	r := reach{[]netdev.PortRange{{First: 22, Last: 22}, {First: 8000, Last: 8080}}, nil, func(ip netip.Addr) (int, error) {
		if kind, ok := kinds[ip.String()]; ok {
			return kind, nil
		}
		return 0, errors.New("no route")
	}}
	for _, c := range []struct{ at, want string }{
		{"192.0.2.9:80", "192.0.2.9:80"},
		{"[::ffff:192.0.2.9]:80", "192.0.2.9:80"},
		{"10.0.2.4:22", "127.0.0.1:22"},
		{"10.0.2.4:8080", "127.0.0.1:8080"},
		{"10.0.2.4:8081", ""},
		{"192.0.2.1:22", "192.0.2.1:22"}, {"192.0.2.1:23", ""},
		{"[::ffff:192.0.2.1]:23", ""}, {"[::ffff:127.0.0.1]:22", ""},
		{"127.0.0.1:22", ""}, {"127.8.8.8:22", ""}, {"0.0.0.0:22", ""}, {"0.1.2.3:22", ""},
		{"10.0.2.2:22", ""}, {"10.0.2.3:22", ""}, {"10.0.2.15:22", ""}, {"10.0.2.255:22", ""},
		{"169.254.169.254:22", ""}, {"169.254.0.1:22", ""}, {"224.0.0.1:22", ""}, {"239.255.255.250:22", ""},
		{"240.0.0.1:22", ""}, {"255.255.255.255:22", ""}, {"192.0.2.255:22", ""}, {"192.0.2.13:22", ""}, {"198.51.100.1:22", ""},
	} {
		got, ok := r.target(netip.MustParseAddrPort(c.at))
		if ok != (c.want != "") || ok && got != netip.MustParseAddrPort(c.want) {
			t.Errorf("%s leads to %v, %v; want %q", c.at, got, ok, c.want)
		}
	}
}

// Private networks, and what clouds have on the link, are reached where that is
// allowed; and nothing else is for being allowed.
func TestPrivateNetworks(t *testing.T) {
	unicast := func(netip.Addr) (int, error) { return unix.RTN_UNICAST, nil }
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	for at, allowed := range map[string]bool{
		"10.1.2.3": true, "172.16.0.1": true, "172.31.255.254": true, "192.168.178.1": true, "100.64.0.1": true,
		"100.100.100.200": true, "192.0.0.192": true, "198.18.0.1": true, "169.254.169.254": true,
		"127.0.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "10.0.2.9": false,
	} {
		to := netip.AddrPortFrom(netip.MustParseAddr(at), 80)
		if _, ok := (reach{kind: unicast}).target(to); ok {
			t.Errorf("%s is reached", at)
		}
		if _, ok := (reach{allow: all, kind: unicast}).target(to); ok != allowed {
			t.Errorf("%s with all allowed: %v", at, ok)
		}
		other := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
		if _, ok := (reach{allow: other, kind: unicast}).target(to); ok {
			t.Errorf("%s is reached where another network is allowed", at)
		}
	}
	for _, at := range []string{"9.255.255.255", "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.63.0.1", "100.128.0.1", "198.17.0.1", "1.1.1.1"} {
		if _, ok := (reach{kind: unicast}).target(netip.AddrPortFrom(netip.MustParseAddr(at), 80)); !ok {
			t.Errorf("%s is not reached", at)
		}
	}
	// What is allowed does not open the host.
	local := func(netip.Addr) (int, error) { return unix.RTN_LOCAL, nil }
	if _, ok := (reach{allow: all, kind: local}).target(netip.MustParseAddrPort("192.168.1.1:22")); ok {
		t.Error("an address of the host's is reached")
	}
}

// A guest that sends whatever packets it likes does not reach the host itself,
// unless a port is open; and then at no address but the host's.
func TestHostIsClosed(t *testing.T) {
	own := []string{"10.0.2.4", "192.0.2.1", "198.51.100.7"}
	other := []string{
		"10.0.2.2", "10.0.2.3", "10.0.2.255", "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.0.0.1", "192.0.2.255",
		"169.254.169.254", "169.254.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
	}
	for _, open := range []bool{false, true} {
		var args []string
		if open {
			args = []string{"loopback:7000", "loopback:7778-7779"}
		}
		g := newTestGuest(t, args...)
		from := uint16(20000)
		knock := func(addresses []string, port uint16, protocol tcpip.TransportProtocolNumber) []uint16 {
			var ports []uint16
			for _, a := range addresses {
				from++
				ports = append(ports, from)
				g.raw(protocol, netip.AddrPortFrom(netip.MustParseAddr(a), port), from)
			}
			return ports
		}
		closed := knock(append(own, other...), privatePort, tcp.ProtocolNumber)
		closed = append(closed, knock(append(own, other...), privatePort, udp.ProtocolNumber)...)
		closed = append(closed, knock(other, openPort, tcp.ProtocolNumber)...)
		closed = append(closed, knock(other, openPort, udp.ProtocolNumber)...)
		conns, datagrams := knock(own, openPort, tcp.ProtocolNumber), knock(own, openPort, udp.ProtocolNumber)

		g.await(t, "reset", closed[0]) // 10.0.2.4 refuses
		for i := range own {
			if open {
				g.await(t, "connection", conns[i])
				g.await(t, "datagram", datagrams[i])
			} else {
				g.await(t, "reset", conns[i])
			}
		}
		g.mu.Lock()
		for _, port := range closed {
			if got := g.seen[port]; got != "" && got != "reset" {
				t.Errorf("open=%v: %q comes to port %d of the guest", open, got, port)
			}
		}
		g.mu.Unlock()
		// What was sent before has arrived, if it arrives.
		if err := g.calls.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, _ := g.calls.Read(make([]byte, 100)); n > 0 {
			t.Errorf("open=%v: the guest calls %d times at a port of the host that is closed", open, n)
		}
	}
}

// await waits until a packet has come to a port of the guest's.
func (g *testGuest) await(t *testing.T, want string, port uint16) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		g.mu.Lock()
		got = g.seen[port]
		g.mu.Unlock()
		if got != "" {
			break
		}
	}
	if got != want {
		t.Errorf("%q comes to port %d of the guest; want %q", got, port, want)
	}
}
