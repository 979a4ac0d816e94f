package machine

import (
	"crypto/rand"
	"fmt"
	"net"

	"vmm/devices/virtio"
	"vmm/devices/virtio/blk"
	virtionet "vmm/devices/virtio/net"
	"vmm/devices/virtio/rng"
	"vmm/disk"
	"vmm/kvm"
	"vmm/netdev"
)

// addVirtio adds the devices that exist only in virtual machines.
func (m *Machine) addVirtio(cfg Config) error {
	attach := m.attachPCI
	if cfg.Transport == TransportMMIO {
		attach = m.attachMMIO
	}
	for _, c := range cfg.Disks {
		d, err := openDisk(c)
		if err != nil {
			return err
		}
		if err := attach(d); err != nil {
			return err
		}
	}
	for _, c := range cfg.Nets {
		d, err := m.openNet(c)
		if err != nil {
			return err
		}
		if err := attach(d); err != nil {
			return err
		}
	}
	if cfg.RNG {
		return attach(rng.New())
	}
	return nil
}

func openDisk(c Disk) (virtio.Device, error) {
	image, err := disk.Open(c.Config)
	if err != nil {
		return nil, err
	}
	d, err := blk.New(blk.Config{
		Image: image, Name: c.Path, ReadOnly: c.ReadOnly, Serial: c.Serial, Queues: c.Queues,
		IOPS: c.IOPS, Bandwidth: c.Bandwidth, Close: image.Close,
	})
	if err != nil {
		image.Close()
		return nil, fmt.Errorf("disk %s: %w", c.Path, err)
	}
	return d, nil
}

// ringWithoutExit has KVM answer the doorbells of a device whose registers are
// at base.
func (m *Machine) ringWithoutExit(base uint64, doorbells []virtio.Doorbell) error {
	for _, bell := range doorbells {
		event := kvm.IOEvent{Addr: base + bell.Offset, Size: bell.Size, Match: bell.Match}
		if err := m.vm.AddIOEventFD(bell.Event.FD(), event); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) openNet(c Net) (_ virtio.Device, err error) {
	mac := c.MAC
	if mac == nil {
		mac = randomMAC()
	}
	config := virtionet.Config{MAC: mac}
	if c.User {
		config.Port, err = netdev.NewUser(c.Forwards)
	} else {
		config.Port, err = netdev.OpenTap(c.Tap, max(c.Queues, 1))
	}
	if err != nil {
		return nil, fmt.Errorf("net: %w", err)
	}
	if c.Pcap != "" {
		capture, err := netdev.NewCapture(c.Pcap)
		if err != nil {
			config.Port.Close()
			return nil, fmt.Errorf("net: %w", err)
		}
		m.closers = append(m.closers, capture.Close)
		config.Capture = capture
	}
	d, err := virtionet.New(config)
	if err != nil {
		config.Port.Close()
		return nil, fmt.Errorf("net: %w", err)
	}
	return d, nil
}

// randomMAC is an address that is nobody's: locally administered, of one card.
func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = 0x02
	return mac
}
