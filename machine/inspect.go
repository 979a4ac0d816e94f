package machine

import "vmm/devices/virtio"

// Queues are the machine's virtio devices with their queues.
func (m *Machine) Queues() []virtio.State {
	all := []virtio.State{}
	for _, t := range m.transports {
		all = append(all, t.State())
	}
	return all
}
