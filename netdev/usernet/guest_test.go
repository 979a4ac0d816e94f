package usernet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	stacklog "gvisor.dev/gvisor/pkg/log"
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

	"vmm/netdev"
)

// The test binary is the network's process too, with a host of its own: a network
// namespace in which servers listen at every address.
func TestMain(m *testing.M) {
	if os.Args[0] != processName {
		os.Exit(m.Run())
	}
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const processName = "usernet"

// The host's ports: of a service that is to be private, of one that is open where
// a test opens it, and of one that takes connections and never reads, until it gets
// a datagram and closes them.
const (
	privatePort = 7777
	openPort    = 7778
	deafPort    = 7779
)

// Descriptors of the network's process.
const (
	wireFD  = 3
	callsFD = 4 // a byte for each that calls at privatePort
	readyFD = 5
)

func serve(args []string) error {
	for _, line := range []string{
		"ip link set lo up", "ip addr add 192.0.2.1/24 dev lo", "ip addr add 169.254.169.254/32 dev lo",
		"ip route add local 198.51.100.0/24 dev lo",
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	calls := os.NewFile(callsFD, "calls")
	call := func(port int) {
		if port == privatePort {
			_, _ = calls.Write([]byte{1})
		}
	}
	for _, port := range []int{privatePort, openPort, deafPort} {
		l, err := net.Listen("tcp4", fmt.Sprint(":", port))
		if err != nil {
			return err
		}
		c, err := net.ListenPacket("udp4", fmt.Sprint(":", port))
		if err != nil {
			return err
		}
		var mu sync.Mutex
		var deaf []net.Conn
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				call(port)
				if port == deafPort {
					mu.Lock()
					deaf = append(deaf, conn)
					mu.Unlock()
					continue
				}
				go func() {
					_, _ = conn.Read(make([]byte, 1)) // for as long as the guest wants
					conn.Close()
				}()
			}
		}()
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				call(port)
				mu.Lock()
				for _, conn := range deaf {
					conn.Close()
				}
				deaf = nil
				mu.Unlock()
				_, _ = c.WriteTo(b[:n], from)
			}
		}()
	}
	config, err := netdev.ParseUser(args)
	if err != nil {
		return err
	}
	network, err := New(wireFD, config)
	if err != nil {
		return err
	}
	os.NewFile(readyFD, "ready").Close()
	network.Serve()
	return nil
}

// testGuest is a guest that can send any frame, with a TCP/IP stack beside.
type testGuest struct {
	*stack.Stack
	link    *channel.Endpoint
	fd      int
	process *exec.Cmd
	calls   *os.File

	mu   sync.Mutex
	seen map[uint16]string // what has come to a port: "reset", "datagram" ...
}

var guestMAC = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x01")

func newTestGuest(t *testing.T, args ...string) *testGuest {
	t.Helper()
	stacklog.SetLevel(stacklog.Warning)
	stacklog.SetTarget(stacklog.GoogleEmitter{Writer: &stacklog.Writer{Next: io.Discard}})
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	wire := os.NewFile(uintptr(fds[1]), "wire")
	called, calls, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, readyWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := &testGuest{fd: fds[0], calls: called, seen: map[uint16]string{}, process: &exec.Cmd{
		Path: self, Args: append([]string{processName}, args...), Stderr: os.Stderr,
		ExtraFiles:  []*os.File{wire, calls, readyWriter},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET},
	}}
	if err := g.process.Start(); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal("a network namespace:", err)
		}
		t.Skip("a network namespace:", err)
	}
	for _, f := range []*os.File{wire, calls, readyWriter} {
		f.Close()
	}
	_, _ = ready.Read(make([]byte, 1))
	ready.Close()
	g.link = channel.New(4096, netdev.UserMTU, guestMAC)
	g.link.LinkEPCapabilities |= stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	g.Stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := g.CreateNIC(nic, ethernet.New(g.link)); err != nil {
		t.Fatal(err)
	}
	mine := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(guestIP.As4()), PrefixLen: 24}
	if err := g.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: mine}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.SetRouteTable([]tcpip.Route{
		{Destination: mine.Subnet(), NIC: nic},
		{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(gatewayIP.As4()), NIC: nic},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for {
			p := g.link.ReadContext(ctx)
			if p == nil {
				return
			}
			frame := make([]byte, netdev.HeaderSize)
			for _, s := range p.AsSlices() {
				frame = append(frame, s...)
			}
			p.DecRef()
			_, _ = unix.Write(g.fd, frame)
		}
	})
	done.Go(g.receive)
	t.Cleanup(func() {
		cancel()
		_ = unix.Shutdown(g.fd, unix.SHUT_RDWR)
		done.Wait()
		unix.Close(g.fd)
		if err := g.process.Wait(); err != nil {
			t.Error("the network:", err)
		}
		called.Close()
	})
	return g
}

func (g *testGuest) receive() {
	b := make([]byte, 1<<17)
	for {
		n, err := unix.Read(g.fd, b)
		if err != nil || n == 0 {
			return
		}
		frame := b[netdev.HeaderSize:n]
		g.note(frame)
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		g.link.InjectInbound(header.Ethernet(frame).Type(), p)
		p.DecRef()
	}
}

// note notes what has come to which port.
func (g *testGuest) note(frame []byte) {
	if header.Ethernet(frame).Type() != ipv4.ProtocolNumber {
		return
	}
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	body := ip[ip.HeaderLength():]
	g.mu.Lock()
	defer g.mu.Unlock()
	switch ip.TransportProtocol() {
	case tcp.ProtocolNumber:
		segment, what := header.TCP(body), "segment"
		if segment.Flags().Contains(header.TCPFlagRst) {
			what = "reset"
		} else if segment.Flags().Contains(header.TCPFlagSyn) {
			what = "connection"
		}
		g.seen[segment.DestinationPort()] = what
	case udp.ProtocolNumber:
		g.seen[header.UDP(body).DestinationPort()] = "datagram"
	}
}

// raw sends the first packet of a connection or flow, to whatever address.
func (g *testGuest) raw(protocol tcpip.TransportProtocolNumber, to netip.AddrPort, from uint16) {
	size := header.TCPMinimumSize
	if protocol == udp.ProtocolNumber {
		size = header.UDPMinimumSize + 4
	}
	frame := make([]byte, netdev.HeaderSize+header.EthernetMinimumSize+header.IPv4MinimumSize+size)
	eth := header.Ethernet(frame[netdev.HeaderSize:])
	eth.Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: gatewayMAC, Type: ipv4.ProtocolNumber})
	ip := header.IPv4(eth[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(protocol),
		SrcAddr: tcpip.AddrFrom4(guestIP.As4()), DstAddr: tcpip.AddrFrom4(to.Addr().As4()),
	})
	ip.SetChecksum(^sums.Checksum(ip[:header.IPv4MinimumSize], 0))
	body := ip[header.IPv4MinimumSize:]
	if protocol == udp.ProtocolNumber {
		header.UDP(body).Encode(&header.UDPFields{SrcPort: from, DstPort: to.Port(), Length: uint16(len(body))})
	} else {
		header.TCP(body).Encode(&header.TCPFields{SrcPort: from, DstPort: to.Port(), DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535})
	}
	_, _ = unix.Write(g.fd, frame)
}

// dial connects as a guest's program does.
func (g *testGuest) dial(to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.Stack, tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()}, ipv4.ProtocolNumber)
}

// rss is the memory of the network's process, in bytes.
func (g *testGuest) rss(t *testing.T) int { return status(t, g.process.Process.Pid, "VmRSS:") << 10 }

func status(t *testing.T, pid int, key string) (n int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), key)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(key, err)
	}
	return n
}

func (g *testGuest) files(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
