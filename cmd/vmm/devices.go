package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/blk"
	virtionet "vmm/devices/virtio/net"
	"vmm/devices/virtio/vsock"
	"vmm/disk"
	"vmm/machine"
	"vmm/netdev"
)

// parseDisk reads the value of --disk.
func parseDisk(v string) (machine.Disk, error) {
	var d machine.Disk
	const writeback, none = "writeback", "none"
	cache := writeback
	err := parseOptions(v,
		text("path", &d.Path).or("file").must(),
		flag("ro", &d.ReadOnly),
		choice("format", &d.Format, disk.FormatRaw, disk.FormatQcow2),
		text("serial", &d.Serial),
		choice("cache", &cache, writeback, none),
		number("iops", &d.IOPS, 1, 1<<30),
		size("bw", &d.Bandwidth),
		number("queues", &d.Queues, 1, blk.MaxQueues),
	)
	d.Direct = cache == none
	return d, err
}

// parseNet reads the value of --net.
func parseNet(v string) (machine.Net, error) {
	var n machine.Net
	options := []option{
		mac("mac", &n.MAC),
		text("pcap", &n.Pcap),
		number("mtu", &n.MTU, virtionet.MinMTU, virtionet.MaxMTU),
	}
	switch kind := splitOptions(v)[0]; {
	case kind == "user":
		options = append(options,
			flag("user", &n.User),
			option{key: "hostfwd", many: true, set: func(v string) error {
				f, err := netdev.ParseForward(v)
				n.Forwards = append(n.Forwards, f)
				return err
			}},
			option{key: "allow", many: true, set: func(v string) error {
				p, err := netdev.ParseAddresses(v)
				n.Allow = append(n.Allow, p)
				return err
			}},
			option{key: "loopback", many: true, on: func() { n.Loopback = append(n.Loopback, netdev.AllPorts) }, set: func(v string) error {
				r, err := netdev.ParsePortRange(v)
				n.Loopback = append(n.Loopback, r)
				return err
			}})
	case strings.HasPrefix(kind, "tap="):
		options = append(options, text("tap", &n.Tap).must(), flag("create", &n.CreateTap), number("queues", &n.Queues, 1, netdev.MaxQueues))
	case strings.HasPrefix(kind, "tap"):
		return n, fmt.Errorf("it begins with \"user\" or \"tap=NAME\"; write tap=%s", kind)
	default:
		return n, errors.New(`it begins with "user" or "tap=NAME"`)
	}
	return n, parseOptions(v, options...)
}

// mac is an option with the address of a network card.
func mac(key string, p *net.HardwareAddr) option {
	return option{key: key, set: func(v string) error {
		m, err := net.ParseMAC(v)
		if err == nil && len(m) != 6 {
			err = errors.New("it has six bytes, such as 02:00:00:00:00:01")
		}
		*p = m
		return err
	}}
}

// parseModule reads the value of --module.
func parseModule(v string) (machine.Module, error) {
	var m machine.Module
	err := parseOptions(v, text("path", &m.Path).must(), text("args", &m.Args))
	return m, err
}

// parseShare reads the value of --share.
func parseShare(v string) (machine.Share, error) {
	var s machine.Share
	err := parseOptions(v, text("path", &s.Path).must(), text("tag", &s.Tag).must(), flag("ro", &s.ReadOnly))
	return s, err
}

// parseVsock reads the value of --vsock.
func parseVsock(v string) (*vsock.Config, error) {
	var c vsock.Config
	cid := option{key: "cid", set: func(v string) error {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n < vsock.MinCID || n > vsock.MaxCID {
			return fmt.Errorf("%q is not a number from %d to %d", v, vsock.MinCID, uint32(vsock.MaxCID))
		}
		c.CID = uint32(n)
		return nil
	}}
	err := parseOptions(v, cid.must(), text("uds", &c.Path).must())
	return &c, err
}

// parseBalloon reads the value of --balloon, which may be left out.
func parseBalloon(v string) (*balloon.Config, error) {
	var c balloon.Config
	if v = strings.TrimSpace(v); v == "" { // --balloon alone
		return &c, nil
	}
	err := parseOptions(v, option{key: "size", set: func(v string) (err error) {
		c.Size, err = machine.ParseSize(v)
		return err
	}}, flag("free-page-reporting", &c.Reporting))
	return &c, err
}
