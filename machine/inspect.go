package machine

import (
	"cmp"
	"slices"

	"vmm/boot"
	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/memory"
)

// transport is a virtio device, to look at and to pause.
type transport interface {
	Name() string
	Pause()
	Resume()
	State() virtio.State
	Rings(queue int) (virtio.Rings, bool)
	Save() (virtio.TransportState, error)
	Restore(virtio.TransportState) error
}

// Queues are the machine's virtio devices with their queues.
func (m *Machine) Queues() []virtio.State {
	all := []virtio.State{}
	for _, t := range m.transports {
		all = append(all, t.State())
	}
	return all
}

// Area is a piece of an address space: ports, or guest-physical memory.
type Area struct {
	memory.Range
	Name string
	// Kind is "RAM", "device", or "KVM" for what KVM answers. What it has taken
	// over from a device of vmm's, the PIT, was "device" before.
	Kind string
	// Contents are what lay there when the guest began, of RAM.
	Contents []boot.Place
}

// MemoryMap is the guest-physical address space.
func (m *Machine) MemoryMap() []Area {
	var all []Area
	places := m.entry.Places()
	for _, r := range m.memory.Regions() {
		ram := Area{Range: r.Range, Name: "RAM", Kind: "RAM"}
		for _, p := range places {
			if r.Contains(p.Start, p.Size) {
				ram.Contents = append(ram.Contents, p)
			}
		}
		all = append(all, ram)
	}
	all = append(all, areas(&m.mmio)...)
	all = append(all, kvmAreas()...)
	return sorted(all)
}

// Ports is the space of I/O ports.
func (m *Machine) Ports() []Area {
	return sorted(append(areas(&m.ports), kvmPorts()...))
}

func sorted(all []Area) []Area {
	slices.SortFunc(all, func(a, b Area) int { return cmp.Compare(a.Start, b.Start) })
	return all
}

// list is a device that leads to others.
type list interface {
	Each(func(base, size uint64, name string, d devices.Device))
}

// areas are the devices of a bus, and what is in those that lead to others.
func areas(b *devices.Bus) []Area {
	var all []Area
	b.Each(func(base, size uint64, name string, d devices.Device) {
		kind := "device"
		if k, ok := d.(interface{ inKVM() bool }); ok && k.inKVM() {
			kind = "KVM"
		}
		all = append(all, Area{Range: memory.Range{Start: base, Size: size}, Name: name, Kind: kind})
		if _, isBus := d.(*devices.Bus); isBus {
			return // the parts of a device's registers
		}
		if list, ok := d.(list); ok {
			list.Each(func(base, size uint64, name string, _ devices.Device) {
				all = append(all, Area{Range: memory.Range{Start: base, Size: size}, Name: name, Kind: "device"})
			})
		}
	})
	return all
}
