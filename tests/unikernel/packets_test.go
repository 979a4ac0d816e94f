package unikernel

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A network between host and guest, by a tap device.
const (
	tap        = link("tap0")
	hostIP     = "10.9.0.1"
	guestIP    = "10.9.0.2"
	ownAddress = "ip=" + guestIP + "::" + hostIP + ":255.255.255.0"
	service    = guestIP + ":8080"
)

// addTap adds the tap device to the test's namespace.
func addTap(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, command := range []string{
		"ip tuntap add tap0 mode tap vnet_hdr", "ip addr add " + hostIP + "/24 dev tap0", "ip link set tap0 up",
	} {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "tap0").Run() })
}

// wire is the guest's network below IP: frames as they are.
type wire struct{ fd int }

func openWire(t testing.TB) *wire {
	t.Helper()
	card, err := net.InterfaceByName(string(tap))
	if err != nil {
		t.Fatal(err)
	}
	all := binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, unix.ETH_P_ALL >> 8}) // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: card.Index}); err != nil {
		t.Fatal(err)
	}
	return &wire{fd}
}

// receive returns a frame that the host has sent, nil if there is none.
func (w *wire) receive() []byte {
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			return nil
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING && n >= 14 {
			return buf[:n]
		}
	}
}

// send sends a frame to the guest. One that the tap device has no room for is
// lost, as any frame may be.
func (w *wire) send(frame []byte) { _, _ = unix.Write(w.fd, frame) }

// Offsets in frames.
const (
	ethType  = 12
	ipHeader = 14
	ipLength = ipHeader + 2
	ipProto  = ipHeader + 9
	ipSum    = ipHeader + 10
	ipFrom   = ipHeader + 12
)

// mutate changes a frame, in a few places or in its length, and puts its checksums
// right more often than not: a wrong one hides the rest.
func mutate(r *rand.Rand, frame []byte) []byte {
	f := append([]byte(nil), frame...)
	for range 1 + r.IntN(4) {
		switch i := r.IntN(len(f)); r.IntN(8) {
		case 0, 1: // the headers, mostly
			f[r.IntN(min(len(f), 74))] = byte(r.Uint32())
		case 2:
			f[i] ^= 1 << r.IntN(8)
		case 3: // values at the edges
			if i+2 <= len(f) {
				edges := []uint16{0, 1, 0x7f, 0xff, 0x7fff, 0x8000, 0xffff, uint16(len(f)), uint16(len(f) - ipHeader)}
				binary.BigEndian.PutUint16(f[i:], edges[r.IntN(len(edges))])
			}
		case 4:
			f = f[:max(14, i)]
		case 5:
			f = append(f, make([]byte, r.IntN(64))...)
		case 6: // lengths of headers: IP's, TCP's
			if len(f) > ipHeader+33 {
				if r.IntN(2) == 0 {
					f[ipHeader] = 0x40 | byte(r.IntN(16))
				} else {
					f[ipHeader+32] = byte(r.Uint32())
				}
			}
		case 7: // flags of TCP, and its options
			if len(f) > ipHeader+48 {
				f[ipHeader+33] = byte(r.Uint32())
				for j := ipHeader + 40; j < min(len(f), ipHeader+60); j++ {
					f[j] = byte(r.IntN(12))
				}
			}
		}
	}
	if len(f) > 1514 {
		f = f[:1514]
	}
	if r.IntN(4) > 0 {
		fixSums(f)
	}
	return f
}

// fixSums puts the checksums of IP, ICMP, UDP and TCP right, as far as the frame
// says where they are. RFC 791, 792, 768, 9293.
func fixSums(f []byte) {
	if len(f) < ipHeader+20 || binary.BigEndian.Uint16(f[ethType:]) != 0x0800 {
		return
	}
	size, total := int(f[ipHeader]&15)*4, int(binary.BigEndian.Uint16(f[ipLength:]))
	if size < 20 || ipHeader+size > len(f) || total < size || ipHeader+total > len(f) {
		return
	}
	binary.BigEndian.PutUint16(f[ipSum:], 0)
	binary.BigEndian.PutUint16(f[ipSum:], checksum(0, f[ipHeader:ipHeader+size]))
	payload := f[ipHeader+size : ipHeader+total]
	at, pseudo := -1, uint32(0)
	switch f[ipProto] {
	case unix.IPPROTO_ICMP:
		at = 2
	case unix.IPPROTO_UDP:
		at = 6
	case unix.IPPROTO_TCP:
		at = 16
	}
	if at < 0 || at+2 > len(payload) {
		return
	}
	if at != 2 {
		pseudo = uint32(f[ipProto]) + uint32(len(payload)) + sum(f[ipFrom:ipFrom+8])
	}
	binary.BigEndian.PutUint16(payload[at:], 0)
	binary.BigEndian.PutUint16(payload[at:], checksum(pseudo, payload))
}

// sum adds 16-bit words. RFC 1071.
func sum(b []byte) (s uint32) {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func checksum(s uint32, b []byte) uint16 {
	for s += sum(b); s > 0xffff; {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// frame is an IPv4 packet of a protocol to the guest.
func frame(guest net.HardwareAddr, protocol byte, payload []byte) []byte {
	f := append(append([]byte{}, guest...), 2, 0, 0, 0, 0, 1, 0x08, 0x00)
	f = append(f, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0)
	f = append(append(f, net.ParseIP(hostIP).To4()...), net.ParseIP(guestIP).To4()...)
	f = append(f, payload...)
	binary.BigEndian.PutUint16(f[ipLength:], uint16(len(f)-ipHeader))
	fixSums(f)
	return f
}

// seeds are frames of kinds that a host does not send by itself.
func seeds(guest net.HardwareAddr) [][]byte {
	udp := func(to uint16, n int) []byte {
		b := binary.BigEndian.AppendUint16([]byte{0, 67}, to)
		b = binary.BigEndian.AppendUint16(b, uint16(8+n))
		return append(append(b, 0, 0), make([]byte, n)...)
	}
	// An answer of a DHCP server, RFC 2131 §2, with options.
	dhcp := udp(68, 300)
	copy(dhcp[8:], []byte{2, 1, 6, 0})
	copy(dhcp[8+236:], []byte{99, 130, 83, 99, 53, 1, 5, 54, 4, 10, 9, 0, 1, 51, 4, 0, 0, 0, 60, 1, 4, 255, 255, 255, 0, 255})
	arp := append(append([]byte{}, guest...), 2, 0, 0, 0, 0, 1, 0x08, 0x06)
	arp = append(arp, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 9, 0, 1, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2)
	fragment := frame(guest, unix.IPPROTO_UDP, udp(68, 64))
	fragment[ipHeader+6] = 0x20 // more follow
	fixSums(fragment)
	return [][]byte{
		arp, fragment,
		frame(guest, unix.IPPROTO_ICMP, append([]byte{8, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 56)...)),
		frame(guest, unix.IPPROTO_UDP, udp(9, 32)),
		frame(guest, unix.IPPROTO_UDP, dhcp),
		frame(guest, unix.IPPROTO_IGMP, make([]byte, 8)),
		frame(guest, 255, make([]byte, 20)),
		frame(guest, unix.IPPROTO_TCP, []byte{0x30, 0x39, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0x10, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4}),
	}
}

// guestAddress is the guest's, as the host has learnt it.
func guestAddress(t testing.TB) net.HardwareAddr {
	t.Helper()
	out, err := exec.Command("ip", "neigh", "show", guestIP).Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(out))
	for i := range words {
		if words[i] == "lladdr" && i+1 < len(words) {
			if mac, err := net.ParseMAC(words[i+1]); err == nil {
				return mac
			}
		}
	}
	t.Fatalf("no address of the guest in %q", out)
	return nil
}

// Frames that no host would send do not end the guest, and do not keep it from
// serving others. They are made from those of connections that are going on, so
// that addresses, ports and sequence numbers are right, and from others.
func TestPackets(t *testing.T) {
	count, seed := 50_000, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("VMM_PACKETS")); err == nil {
		count, seed = n, uint64(time.Now().UnixNano())
	}
	for _, m := range monitors[:3] {
		t.Run(m.name, func(t *testing.T) {
			count := count
			if m.slow() {
				count /= 20
			}
			addTap(t)
			g := m.start(t, 16, tap, ownAddress)
			g.expect(listening)
			if err := reach(service); err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(seed, 0))
			t.Logf("%d frames, seed %d", count, seed)
			w, made := openWire(t), seeds(guestAddress(t))
			for sent := 0; sent < count; {
				// Clients, whose connections may well break.
				var clients sync.WaitGroup
				for range 4 {
					clients.Go(func() { _ = request(service, 100*time.Millisecond) })
				}
				for range 200 {
					frame := w.receive()
					if frame == nil || random.IntN(8) == 0 {
						frame = made[random.IntN(len(made))]
					}
					for range 1 + random.IntN(3) {
						w.send(mutate(random, frame))
						sent++
					}
				}
				clients.Wait()
				// Not faster than the guest takes them, or they are lost.
				for {
					taken, lost := counters(t)
					if taken+lost >= sent-100 {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
			taken, lost := counters(t)
			t.Logf("%d frames taken, %d lost", taken, lost)
			if taken < count*9/10 {
				t.Errorf("of %d frames only %d arrived", count, taken)
			}
			// What lwIP believes of the host may be wrong now; it learns from
			// what the host asks anew.
			var err error
			for range 20 {
				_ = exec.Command("ip", "neigh", "flush", "dev", string(tap)).Run()
				if err = reach(service); err == nil {
					break
				}
			}
			if err != nil {
				t.Errorf("afterwards: %v", err)
			}
			for range 100 {
				if err := reach(service); err != nil {
					t.Fatalf("afterwards: %v", err)
				}
			}
			select {
			case <-g.ended:
				t.Errorf("the guest ended: %v", g.err)
			default:
			}
			if text := g.console.String(); strings.Contains(text, "panic") {
				t.Errorf("the guest said %q", text)
			}
		})
	}
}

// counters are how many frames the guest's monitor has taken from the host, and
// how many it had no room for.
func counters(t testing.TB) (taken, lost int) {
	t.Helper()
	out, err := exec.Command("ip", "-s", "link", "show", string(tap)).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(out), "TX:") // a line of names, and one of numbers
	numbers := strings.Fields(after[strings.IndexByte(after, '\n')+1:])
	if len(numbers) < 4 {
		t.Fatalf("ip shows %q", out)
	}
	taken, _ = strconv.Atoi(numbers[1])
	lost, _ = strconv.Atoi(numbers[3])
	return taken, lost
}

// request makes a few requests over one connection.
func request(addr string, timeout time.Duration) error {
	conn, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	body := "[5,4,3,2,1]"
	buf := make([]byte, 4096)
	for range 4 {
		if _, err := fmt.Fprintf(conn, "GET /todos HTTP/1.1\r\nHost: x\r\n\r\nPOST /sort HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			return err
		}
		if _, err := conn.Read(buf); err != nil {
			return err
		}
	}
	return nil
}

// Clients that begin to connect and never go on do not keep others out: their half
// connections give way.
func TestHalfConnections(t *testing.T) {
	addTap(t)
	g := monitors[2].start(t, 16, tap, ownAddress)
	g.expect(listening)
	if err := reach(service); err != nil {
		t.Fatal(err)
	}
	w, guest := openWire(t), guestAddress(t)
	for i := range 4000 {
		syn := frame(guest, unix.IPPROTO_TCP, []byte{0, 0, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0x10, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4})
		syn[ipFrom+3] = byte(3 + i%250) // nobody has these addresses
		binary.BigEndian.PutUint16(syn[ipHeader+20:], uint16(1024+i))
		fixSums(syn)
		w.send(syn)
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // or the tap device drops them
		}
	}
	begun := time.Now()
	if err := reach(service); err != nil {
		t.Errorf("after them: %v", err)
	}
	t.Logf("served %v after the last of them", time.Since(begun))
}
