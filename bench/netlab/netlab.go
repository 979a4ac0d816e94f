// Package netlab is the network of a benchmark: a bridge in a network namespace
// of the bench's own, to which virtual machines are connected by tap devices and
// containers by veth pairs. Every path from the load generator to a workload thus
// has the same bridge in it, and the host's own network is never touched.
//
// It is made in the network namespace of the calling process, which is the
// bench's, and goes with it.
package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge is the name of the bridge.
const Bridge = "bench0"

// Subnet is the network. Its first address is the bench's; every other may be an
// instance's. RFC 2544 sets these addresses apart for benchmarks.
var Subnet = netip.MustParsePrefix("198.18.0.0/16")

// Gateway is the bench's own address.
var Gateway = Subnet.Addr().Next()

// MaxInstances is how many instances there are addresses for.
const MaxInstances = 1000

// queueWaiting is the length of a device's queue until its instance has answered.
// What is sent to a guest without a driver waits there, and would all be
// delivered at once when it comes up: attempts to connect, most of them given up.
const queueWaiting = 4

// queueServing is the length of the queue under load, the kernel's default.
const queueServing = 1000

// Setup makes the bridge, and switches on the loopback device.
func Setup() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback device: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Bridge
	attrs.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make a bridge: %w; the kernel needs CONFIG_BRIDGE ('modprobe bridge')", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: Gateway.AsSlice(), Mask: net.CIDRMask(Subnet.Bits(), 32)}}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("address of the bridge: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("switch the bridge on: %w", err)
	}
	// Addresses whose MAC is not known are asked for often, not once a second.
	neigh := "/proc/sys/net/ipv4/neigh/" + Bridge
	err = errors.Join(os.WriteFile(neigh+"/retrans_time_ms", []byte("4"), 0), os.WriteFile(neigh+"/mcast_solicit", []byte("1000"), 0))
	if err != nil {
		return err
	}
	// Many clients of one server soon use up the ports that Linux gives out. But
	// those where processes listen are not for clients.
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65000"), 0),
		os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", fmt.Appendf(nil, "%d-%d", firstPort, firstPort+MaxInstances-1), 0),
	)
}

// firstPort is the first of the ports for processes, which share one address.
const firstPort = 20000

// Port is where a process may listen.
func Port(i int) uint16 { return uint16(firstPort + i%MaxInstances) }

// Endpoint is where an instance is connected.
type Endpoint struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
	// Tap is a tap device on the bridge, for a machine; "" otherwise.
	Tap string
	// Namespace is the path of a network namespace with a device eth0 on the
	// bridge, for a container; "" otherwise.
	Namespace string

	device string // on the bridge
}

// Address is the address and MAC of instance i.
func address(i int) (netip.Addr, net.HardwareAddr, error) {
	if i < 0 || i >= MaxInstances {
		return netip.Addr{}, nil, fmt.Errorf("instance %d: there are addresses for %d", i, MaxInstances)
	}
	base := Subnet.Addr().As4()
	hi, lo := byte((i+2)>>8), byte(i+2)
	return netip.AddrFrom4([4]byte{base[0], base[1], hi, lo}), net.HardwareAddr{2, 0, 0, 1, hi, lo}, nil
}

// NewTap connects instance i by a tap device.
func NewTap(i int) (*Endpoint, error) {
	addr, mac, err := address(i)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{Addr: addr, MAC: mac, Tap: "tap" + strconv.Itoa(i)}
	e.device = e.Tap
	attrs := netlink.NewLinkAttrs()
	attrs.Name = e.Tap
	// The flags have to be those with which the monitor will open it.
	tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR, Queues: 1, NonPersist: false}
	if err := netlink.LinkAdd(tap); err != nil {
		return nil, fmt.Errorf("tap device: %w", err)
	}
	for _, f := range tap.Fds {
		f.Close()
	}
	return e, e.connect()
}

// NewNamespace connects instance i by a veth pair whose other end is in a network
// namespace, kept alive by a file in dir.
func NewNamespace(i int, dir string) (*Endpoint, error) {
	addr, mac, err := address(i)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{Addr: addr, MAC: mac, Namespace: filepath.Join(dir, "net"+strconv.Itoa(i)), device: "veth" + strconv.Itoa(i)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = e.device
	if err := makeNamespace(e.Namespace); err != nil {
		return nil, err
	}
	peer := "peer" + strconv.Itoa(i)
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerHardwareAddr: mac}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, errors.Join(fmt.Errorf("veth pair: %w; the kernel needs CONFIG_VETH ('modprobe veth')", err), e.Close())
	}
	if err := e.moveIn(peer); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, e.connect()
}

// NewAddress reserves the address of instance i, for a runtime that makes its
// device on the bridge itself, with a MAC of its own choice.
func NewAddress(i int) (*Endpoint, error) {
	addr, _, err := address(i)
	return &Endpoint{Addr: addr}, err
}

// moveIn gives the namespace its end of the pair, as eth0 with the address.
func (e *Endpoint) moveIn(peer string) error {
	ns, err := os.Open(e.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	link, err := netlink.LinkByName(peer)
	if err != nil {
		return fmt.Errorf("veth pair: %w", err)
	}
	if err := netlink.LinkSetNsFd(link, int(ns.Fd())); err != nil {
		return fmt.Errorf("move %s into a namespace: %w", peer, err)
	}
	return within(ns, func() error {
		link, err := netlink.LinkByName(peer)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetName(link, "eth0"); err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: e.Addr.AsSlice(), Mask: net.CIDRMask(Subnet.Bits(), 32)}}); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(link))
	})
}

// introduce enters the instance's MAC by hand: an address that nobody answers for
// yet is asked for once a second only, which is no way to find out when an
// instance is ready. The bridge is told, too, or it would send what is for an
// instance that has not been heard of yet to all of them.
func (e *Endpoint) introduce(bridge, link netlink.Link) error {
	return errors.Join(
		netlink.NeighSet(&netlink.Neigh{
			LinkIndex: bridge.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
			IP: e.Addr.AsSlice(), HardwareAddr: e.MAC,
		}),
		netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER,
			HardwareAddr: e.MAC,
		}))
}

// connect puts the device on the bridge.
func (e *Endpoint) connect() error {
	bridge, err := netlink.LinkByName(Bridge)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(e.device)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	err = errors.Join(
		netlink.LinkSetMaster(link, bridge),
		netlink.LinkSetTxQLen(link, queueWaiting),
		netlink.LinkSetUp(link),
		e.introduce(bridge, link))
	if err != nil {
		return errors.Join(fmt.Errorf("connect %s to the bridge: %w", e.device, err), e.Close())
	}
	return nil
}

// Heard tells whether a packet has come from the instance. It is no for one whose
// device is not known.
func (e *Endpoint) Heard() bool {
	if e.device == "" {
		return false
	}
	link, err := netlink.LinkByName(e.device)
	return err == nil && link.Attrs().Statistics != nil && link.Attrs().Statistics.RxPackets > 0
}

// Serving tells that the instance answers.
func (e *Endpoint) Serving() error {
	if e.device == "" {
		return nil
	}
	link, err := netlink.LinkByName(e.device)
	if err != nil {
		return err
	}
	return netlink.LinkSetTxQLen(link, queueServing)
}

// Close removes what was made.
func (e *Endpoint) Close() error {
	var errs []error
	if link, err := netlink.LinkByName(e.device); e.device != "" && err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	if bridge, err := netlink.LinkByName(Bridge); e.MAC != nil && err == nil {
		_ = netlink.NeighDel(&netlink.Neigh{LinkIndex: bridge.Attrs().Index, IP: e.Addr.AsSlice()}) // it may be gone with the device
	}
	if e.Namespace != "" {
		errs = append(errs, unix.Unmount(e.Namespace, unix.MNT_DETACH), os.Remove(e.Namespace))
	}
	return errors.Join(errs...)
}

// makeNamespace makes a network namespace and mounts it on a file, so that it
// stays without a process in it.
func makeNamespace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
}

// within calls f in a network namespace.
func within(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread that nobody else gets to use afterwards: it ends
// with its goroutine, which stays locked to it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
