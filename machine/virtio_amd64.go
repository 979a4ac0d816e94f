package machine

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/blk"
	"vmm/devices/virtio/console"
	virtionet "vmm/devices/virtio/net"
	"vmm/devices/virtio/p9"
	"vmm/devices/virtio/rng"
	"vmm/devices/virtio/vsock"
	"vmm/disk"
	"vmm/netdev"
	"vmm/share"
	"vmm/share/ninep"
)

// addVirtio adds the devices that exist only in virtual machines.
func (m *Machine) addVirtio(cfg Config) error {
	attach := m.attachPCI
	if cfg.Transport == TransportMMIO {
		attach = m.attachMMIO
	}
	// First those that Firecracker has too, in its order, and with that at its
	// addresses on the MMIO transport: guests are made for them.
	if cfg.Balloon != nil {
		m.balloon = balloon.New(*cfg.Balloon)
		if err := attach(m.balloon); err != nil {
			return err
		}
	}
	for _, c := range cfg.Disks {
		if err := add(attach, c, m.openDisk); err != nil {
			return err
		}
	}
	for _, c := range cfg.Nets {
		if err := add(attach, c, m.openNet); err != nil {
			return err
		}
	}
	if cfg.Vsock != nil {
		if err := add(attach, *cfg.Vsock, openVsock); err != nil {
			return err
		}
	}
	if cfg.RNG {
		if err := attach(rng.New()); err != nil {
			return err
		}
	}
	if len(cfg.Shares) > 0 {
		budget := share.NewBudget()
		open := func(c Share) (virtio.Device, error) { return openShare(c, budget) }
		for _, c := range cfg.Shares {
			if err := add(attach, c, open); err != nil {
				return err
			}
		}
	}
	if cfg.VirtioConsole {
		c := console.New(cfg.Console)
		m.console = c
		return attach(c)
	}
	return nil
}

// add opens what is behind a device, and attaches it.
func add[C any](attach func(virtio.Device) error, c C, open func(C) (virtio.Device, error)) error {
	d, err := open(c)
	if err != nil {
		return err
	}
	return attach(d)
}

func (m *Machine) openDisk(c Disk) (virtio.Device, error) {
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
	if !c.ReadOnly {
		m.disks = append(m.disks, image)
	}
	file, err := os.OpenFile(c.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("disk: %w", err)
	}
	m.closers = append(m.closers, file.Close)
	m.images = append(m.images, file)
	return d, nil
}

// name is the name of the next virtio device of its kind: "virtio-blk0".
func (m *Machine) name(d virtio.Device) string {
	kind := fmt.Sprintf("virtio-%v", d.Info().Type)
	if m.names == nil {
		m.names = map[string]int{}
	}
	n := m.names[kind]
	m.names[kind]++
	return fmt.Sprintf("%s%d", kind, n)
}

// virtioConfig is what a virtio device with this name is connected to.
func (m *Machine) virtioConfig(name string) virtio.Config {
	return virtio.Config{Name: name, Memory: m.memory, Observer: &observer{&m.tracing, name}, Log: m.log}
}

func (m *Machine) openNet(c Net) (_ virtio.Device, err error) {
	config := virtionet.Config{MAC: c.MAC, MTU: c.MTU}
	if c.User {
		config.Port, err = netdev.NewUser(c.UserConfig)
	} else {
		config.Port, err = netdev.OpenTap(c.Tap, max(c.Queues, 1), c.CreateTap)
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
	m.nets = append(m.nets, d)
	return d, nil
}

// openShare opens a folder, which counts in the budget of all of the machine's.
func openShare(c Share, budget *share.Budget) (virtio.Device, error) {
	folder, err := share.Open(c.Path, c.ReadOnly, budget)
	if err != nil {
		return nil, err
	}
	d, err := p9.New(c.Tag, ninep.New(folder))
	if err != nil {
		folder.Close()
		return nil, fmt.Errorf("share %s: %w", c.Path, err)
	}
	return d, nil
}

func openVsock(c vsock.Config) (virtio.Device, error) {
	d, err := vsock.New(c)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	return d, nil
}

// withAddresses are the cards with an address each.
func withAddresses(nets []Net) []Net {
	nets = slices.Clone(nets)
	for i := range nets {
		if nets[i].MAC == nil {
			nets[i].MAC = randomMAC()
		}
	}
	return nets
}

// randomMAC is an address that is nobody's: locally administered, of one card.
func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = 0x02
	return mac
}
