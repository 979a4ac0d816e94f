package netdev

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A frame goes through the tap to the host and an answer comes back, each
// behind its header.
func TestTap(t *testing.T) {
	ns := newNamespace(t)
	tap := ns.tap(t, "vmm0", 1)
	ns.run(t, "ip addr add 192.0.2.1/24 dev vmm0")
	ns.run(t, "ip link set vmm0 mtu 9000 up")
	if tap.MTU() != 1500 {
		t.Errorf("MTU %d; want that of the start", tap.MTU())
	}
	if err := tap.SetOffload(unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6); err != nil {
		t.Error(err)
	}
	// Who has 192.0.2.1? RFC 826.
	me := []byte{2, 0, 0, 0, 0, 9}
	ask := make([]byte, HeaderSize)
	ask = append(ask, bytes.Repeat([]byte{0xff}, 6)...)
	ask = append(append(ask, me...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	ask = append(append(ask, me...), 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1)
	if _, err := unix.Write(tap.FDs()[0], ask); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for {
		n := readFrame(t, tap.FDs()[0], buf)
		f := buf[HeaderSize:n]
		if binary.BigEndian.Uint16(f[12:]) == 0x0806 && f[21] == 2 { // an answer
			if !bytes.Equal(f[:6], me) || !bytes.Equal(f[28:32], []byte{192, 0, 2, 1}) {
				t.Errorf("answer % x", f)
			}
			return
		}
	}
}

func readFrame(t *testing.T, fd int, buf []byte) int {
	t.Helper()
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000); n != 1 {
		t.Fatal("no frame comes")
	}
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The host spreads connections over the queues that take part, and no others.
func TestTapQueues(t *testing.T) {
	ns := newNamespace(t)
	tap := ns.tap(t, "vmm0", 4)
	ns.run(t, "ip addr add 192.0.2.1/24 brd + dev vmm0")
	ns.run(t, "ip link set vmm0 up")
	for _, n := range []int{1, 4, 2, 2, 1} {
		if err := tap.SetQueues(n); err != nil {
			t.Fatal(err)
		}
		ns.do(func() { broadcast(t) })
		for i, fd := range tap.FDs() {
			frames := 0
			for {
				if _, err := unix.Read(fd, make([]byte, 2000)); err != nil {
					break
				}
				frames++
			}
			if (frames > 0) != (i < n) {
				t.Errorf("%d queues: %d frames in queue %d", n, frames, i)
			}
		}
	}
}

// broadcast sends a datagram from each of many ports to everybody at 192.0.2.0.
func broadcast(t *testing.T) {
	for range 100 {
		c, err := net.Dial("udp", "192.0.2.255:9")
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		c.Close()
	}
}

func TestTapErrors(t *testing.T) {
	ns := newNamespace(t)
	ns.tap(t, "used", 1)
	ns.run(t, "ip tuntap add single mode tap vnet_hdr")
	for _, tt := range []struct {
		name   string
		queues int
		want   string
	}{
		{"", 1, "a name has 1 to 15"},
		{"a-name-that-is-too-long", 1, "a name has 1 to 15"},
		{"used", 1, "another program"},
		{"single", 2, "multi_queue"},
		{"lo", 1, "made with other flags"},
		{"absent", 1, "ip tuntap add absent mode tap user $USER vnet_hdr;"},
		{"absent", 2, "tap=absent,create"},
	} {
		ns.do(func() {
			tap, err := OpenTap(tt.name, tt.queues, false)
			if err == nil {
				tap.Close()
				t.Errorf("%q: opened", tt.name)
			} else if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q: %v; want %q", tt.name, err, tt.want)
			}
		})
	}
	if out := ns.run(t, "ip -o link"); strings.Contains(out, "absent") {
		t.Errorf("a tap device that was refused was made: %s", out)
	}
}
