package machine

import (
	"fmt"

	"vmm/devices/virtio"
	"vmm/devices/virtio/blk"
	"vmm/devices/virtio/rng"
	"vmm/disk"
	"vmm/kvm"
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
