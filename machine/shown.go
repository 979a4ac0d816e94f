package machine

import (
	"fmt"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/trace"
)

// Shown is a device with what its registers hold, for people to look at.
type Shown struct {
	Name string `json:"name"`
	// Where it is: "port 0x3f8", or an address; of KVM's "" where it has none.
	Where     string          `json:"where"`
	Kind      string          `json:"kind"` // as in Area
	Registers []ShownRegister `json:"registers"`
}

// ShownRegister is a register of a device.
type ShownRegister struct {
	Name    string    `json:"name"`
	Offset  trace.Hex `json:"offset"`
	Bytes   int       `json:"bytes"` // its width
	Value   trace.Hex `json:"value"`
	Meaning string    `json:"meaning,omitempty"`
}

// Devices are the devices whose registers can be looked at without an effect, and
// KVM's interrupt controllers and timer; the local APIC is that of a vCPU, for
// which the processors are held.
func (m *Machine) Devices(vcpu int) ([]Shown, error) {
	all := show(nil, &m.ports, "port ", 0)
	all = show(all, &m.mmio, "", 0)
	chips, err := m.chips(vcpu)
	return append(all, chips...), err
}

// show appends the devices of a list, and of lists in it, that can be shown. Parts
// of one device are put together.
func show(all []Shown, l list, where string, start uint64) []Shown {
	l.Each(func(base, size uint64, name string, d devices.Device) {
		if inner, ok := d.(list); ok {
			at := start + base
			if _, isBus := d.(*devices.Bus); !isBus {
				at = 0 // the addresses of what is in a window are whole
			}
			all = show(all, inner, where, at)
		}
		s, ok := d.(devices.Shower)
		if !ok {
			return
		}
		if n := len(all); n == 0 || all[n-1].Name != name {
			all = append(all, Shown{Name: name, Where: fmt.Sprintf("%s%#x", where, start+base), Kind: "device"})
		}
		part := &all[len(all)-1]
		for _, v := range s.Show() {
			part.Registers = append(part.Registers, ShownRegister{
				v.Register, trace.Hex(v.Offset), v.Bytes, trace.Hex(v.Value), s.Meaning(v.Register, false, v.Value),
			})
		}
	})
	return all
}

// Rings are those of a queue of the virtio device with a name.
func (m *Machine) Rings(device string, queue int) (virtio.Rings, error) {
	for _, t := range m.transports {
		if t.State().Name != device {
			continue
		}
		r, ok := t.Rings(queue)
		if !ok {
			return r, fmt.Errorf("%s: there is no queue %d, or its driver has not set it up", device, queue)
		}
		return r, nil
	}
	return virtio.Rings{}, fmt.Errorf("there is no virtio device %q", device)
}
