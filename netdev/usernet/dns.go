package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	// maxQuestions is how many of the guest's questions the host is asked at
	// one time. What is more is dropped: the guest asks again.
	maxQuestions = 64
	// maxNameConnections is how many TCP connections to the DNS server there
	// may be.
	maxNameConnections = 16
	answerTimeout      = 20 * time.Second
	zone               = ".vmm.internal."
)

// names answers the guest's questions for names with what the host knows: its
// /etc/hosts, and its name servers.
type names struct{ asking chan struct{} }

// serveDNS starts the DNS server.
func (g *gateway) serveDNS() error {
	at := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(gatewayIP.As4()), Port: 53}
	packets, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	connections, err := gonet.ListenTCP(g.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	n := names{make(chan struct{}, maxQuestions)}
	go func() { _ = (&dns.Server{PacketConn: noDeadlines{packets}, Handler: n}).ActivateAndServe() }()
	limited := netutil.LimitListener(connections, maxNameConnections)
	go func() { _ = (&dns.Server{Listener: limited, Handler: n}).ActivateAndServe() }()
	return nil
}

// noDeadlines is a connection without deadlines, for a server that would look up
// every two seconds to see whether it should end. It ends with its connection,
// and an idle machine wakes nobody.
type noDeadlines struct{ net.PacketConn }

func (noDeadlines) SetReadDeadline(time.Time) error { return nil }

// ServeDNS implements dns.Handler.
func (n names) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	select {
	case n.asking <- struct{}{}:
		defer func() { <-n.asking }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	m := answer(ctx, question)
	size := dns.MaxMsgSize
	if w.RemoteAddr().Network() == "udp" {
		size = dns.MinMsgSize
		if o := question.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
	}
	m.Truncate(size)
	_ = w.WriteMsg(m) // a guest that is gone asks no more
}

// answer is the answer to a question. There is one: dns.Server sees to it.
func answer(ctx context.Context, question *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(question)
	m.RecursionAvailable = true
	q := question.Question[0]
	host, own := strings.CutSuffix(strings.ToLower(q.Name), zone)
	switch {
	case own && host == "gateway" && q.Qtype == dns.TypeA:
		m.Answer = append(m.Answer, address(q.Name, gatewayIP.AsSlice()))
	case own && host == "host" && q.Qtype == dns.TypeA:
		m.Answer = append(m.Answer, address(q.Name, hostIP.AsSlice()))
	case own && host != "gateway" && host != "host":
		m.Rcode = dns.RcodeNameError
	case own, q.Qtype == dns.TypeAAAA: // the network has no IPv6
	case q.Qtype == dns.TypeA:
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", q.Name)
		var failure *net.DNSError
		switch {
		case err == nil:
			for _, ip := range ips {
				m.Answer = append(m.Answer, address(q.Name, ip.Unmap().AsSlice()))
			}
		case errors.As(err, &failure) && failure.IsNotFound:
			m.Rcode = dns.RcodeNameError
		default:
			m.Rcode = dns.RcodeServerFailure
		}
	default:
		if relayed := relay(ctx, question); relayed != nil {
			return relayed
		}
		m.Rcode = dns.RcodeServerFailure
	}
	return m
}

func address(name string, ip net.IP) dns.RR {
	return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: ip}
}

// relay asks the host's name servers a question of a type that Go's resolver does
// not know. It returns nil when none of them answers.
func relay(ctx context.Context, question *dns.Msg) *dns.Msg {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	for _, server := range config.Servers {
		at := net.JoinHostPort(server, config.Port)
		for _, network := range []string{"udp", "tcp"} {
			client := dns.Client{Net: network, Timeout: 5 * time.Second}
			m, _, err := client.ExchangeContext(ctx, question, at)
			if err != nil {
				break
			}
			if !m.Truncated {
				return m
			}
		}
	}
	return nil
}
