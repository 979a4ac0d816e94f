package netlab

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setup makes the network in a namespace of its own.
func setup(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network takes root")
	}
	runtime.LockOSThread() // which ends with the test: it has another network
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := Setup(); err != nil {
		t.Fatal(err)
	}
}

// What is for an instance that has not said anything yet goes to no other.
func TestNobodyHearsForOthers(t *testing.T) {
	setup(t)
	var ends [2]*Endpoint
	var taps [2]*os.File
	for i := range ends {
		var err error
		if ends[i], err = NewTap(i); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
		taps[i] = plugIn(t, ends[i].Tap)
		defer taps[i].Close()
	}
	conn, err := net.Dial("udp4", netip.AddrPortFrom(ends[0].Addr, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const packets = 100
	for range packets {
		if _, err := conn.Write([]byte("discard")); err != nil {
			t.Fatal(err)
		}
	}
	if ends[0].Heard() {
		t.Error("heard of one that has said nothing")
	}
	if _, err := taps[0].Write(append(make([]byte, 10), bytes.Repeat([]byte{0xff}, 60)...)); err != nil || !ends[0].Heard() {
		t.Errorf("not heard of one that has said something: %v", err)
	}
	var sent [2]uint64
	for i, e := range ends {
		link, err := netlink.LinkByName(e.device)
		if err != nil {
			t.Fatal(err)
		}
		s := link.Attrs().Statistics
		sent[i] = s.TxPackets + s.TxDropped
	}
	if sent[0] < packets/2 || sent[1] >= packets/2 {
		t.Errorf("of %d packets for the first, %d went to it and %d to the second", packets, sent[0], sent[1])
	}
}

// plugIn opens a tap device, as a monitor does, and says nothing.
func plugIn(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// A client's own port is never one at which a process is to listen.
func TestClientsLeavePortsToProcesses(t *testing.T) {
	setup(t)
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil || strings.TrimSpace(string(text)) != "20000-20999" {
		t.Errorf("reserved: %q, %v", text, err)
	}
	for i := range 3 * MaxInstances {
		if p := Port(i); p < 20000 || p > 20999 {
			t.Fatalf("Port(%d) = %d", i, p)
		}
	}
}
