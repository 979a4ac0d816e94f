package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// setUpNetwork brings the interfaces up, and tells the guest's programs of them.
func setUpNetwork(spec *protocol.Spec) error {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err == unix.EAFNOSUPPORT {
		return nil // a kernel without networks
	}
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r := route{socket: s}
	if lo, err := index("lo"); err == nil {
		r.up(lo)
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if n := spec.Network; n != nil {
		address, err := netip.ParsePrefix(n.Address)
		if err != nil {
			return err
		}
		gateway, err := netip.ParseAddr(n.Gateway)
		if err != nil {
			return err
		}
		card, err := awaitInterface(n.Interface)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Interface, err)
		}
		r.up(card)
		r.address(card, address)
		r.gateway(card, gateway)
		var resolvers strings.Builder
		for _, at := range n.Resolvers {
			fmt.Fprintf(&resolvers, "nameserver %s\n", at)
		}
		if err := writeFile("/etc/resolv.conf", resolvers.String()); err != nil {
			return err
		}
		if spec.Hostname != "" {
			hosts += address.Addr().String() + "\t" + spec.Hostname + "\n"
		}
	}
	if r.err == nil && spec.Hostname != "" {
		r.err = writeFile("/etc/hosts", hosts)
	}
	return r.err
}

// index is the number of a network interface.
func index(name string) (uint32, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return request.Uint32(), nil
}

// awaitInterface is index for an interface whose driver was loaded just now.
func awaitInterface(name string) (uint32, error) {
	for end := time.Now().Add(deviceFor); ; time.Sleep(time.Millisecond) {
		n, err := index(name)
		if !errors.Is(err, unix.ENODEV) || time.Now().After(end) {
			return n, err
		}
	}
}

// route asks the kernel for changes of its network: rtnetlink(7). After an error it
// does nothing.
type route struct {
	socket int
	err    error
}

// up brings an interface up.
func (r *route) up(card uint32) {
	// struct ifinfomsg: family, type, index, flags, and which of them change.
	body := make([]byte, 4, 16)
	body = binary.NativeEndian.AppendUint32(body, card)
	body = binary.NativeEndian.AppendUint32(body, unix.IFF_UP)
	body = binary.NativeEndian.AppendUint32(body, unix.IFF_UP)
	r.ask("bring the interface up", unix.RTM_NEWLINK, 0, body)
}

// address gives an interface an address.
func (r *route) address(card uint32, p netip.Prefix) {
	// struct ifaddrmsg: family, length of the prefix, flags, scope, index.
	body := binary.NativeEndian.AppendUint32([]byte{family(p.Addr()), byte(p.Bits()), 0, 0}, card)
	body = attribute(body, unix.IFA_LOCAL, p.Addr().AsSlice())
	body = attribute(body, unix.IFA_ADDRESS, p.Addr().AsSlice())
	r.ask("give it the address "+p.String(), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
}

// gateway has all else go through a gateway.
func (r *route) gateway(card uint32, at netip.Addr) {
	// struct rtmsg: family, two lengths, tos, table, protocol, scope, type, flags.
	body := []byte{family(at), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	body = attribute(body, unix.RTA_GATEWAY, at.AsSlice())
	body = attribute(body, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, card))
	r.ask("the gateway "+at.String(), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// attribute adds an attribute, and what brings the next to a multiple of 4 bytes.
func attribute(to []byte, kind uint16, value []byte) []byte {
	to = binary.NativeEndian.AppendUint16(to, uint16(unix.SizeofRtAttr+len(value)))
	to = binary.NativeEndian.AppendUint16(to, kind)
	to = append(to, value...)
	return append(to, make([]byte, -len(value)&3)...)
}

// ask sends a request and reads the answer.
func (r *route) ask(what string, kind, flags uint16, body []byte) {
	if r.err != nil {
		return
	}
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	request = binary.NativeEndian.AppendUint16(request, kind)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	request = append(request, make([]byte, 8)...) // sequence and port
	if err := unix.Sendto(r.socket, append(request, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		r.err = fmt.Errorf("%s: %w", what, err)
		return
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(r.socket, answer, 0)
	if err == nil && (n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR) {
		err = errors.New("an unexpected answer of the kernel's")
	}
	if err == nil {
		if number := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); number != 0 {
			err = unix.Errno(-number)
		}
	}
	if err != nil {
		r.err = fmt.Errorf("%s: %w", what, err)
	}
}
