package virtiotest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// A state that makes no sense is refused, by the name of the field, on each transport
// and for each device.
func TestStateIsChecked(t *testing.T) {
	edits := []struct {
		want string
		edit func(s *virtio.TransportState)
	}{
		{"type", func(s *virtio.TransportState) { s.Type = 77 }},
		{"offered", func(s *virtio.TransportState) { s.Offered ^= 1 << 60 }},
		{"accepted", func(s *virtio.TransportState) { s.Accepted |= 1 << 60 }},
		{"queues", func(s *virtio.TransportState) { s.Queues = s.Queues[1:] }},
		{"queues", func(s *virtio.TransportState) { s.Queues = append(s.Queues, s.Queues...) }},
		{"active", func(s *virtio.TransportState) { s.Active = false }},
		{"queue 0: virtqueue: a size of 0", func(s *virtio.TransportState) { s.Queues[0].Size = 0 }},
		{"queue 0: virtqueue: a size of 3", func(s *virtio.TransportState) { s.Queues[0].Size = 3 }},
		{"queue 0: virtqueue: a size of 65535", func(s *virtio.TransportState) { s.Queues[0].Size = 65535 }},
		{"queue 0: virtqueue: a size of 32768", func(s *virtio.TransportState) { s.Queues[0].Size = 32768 }},
		{"queue 0: virtqueue: descriptor table", func(s *virtio.TransportState) { s.Queues[0].Desc = virtiotest.MemorySize }},
		{"queue 0: virtqueue: descriptor table", func(s *virtio.TransportState) { s.Queues[0].Desc++ }},
		{"queue 0: virtqueue: available ring", func(s *virtio.TransportState) { s.Queues[0].Avail = ^uint64(1) }},
		{"queue 0: virtqueue: used ring", func(s *virtio.TransportState) { s.Queues[0].Used = virtiotest.MemorySize - 8 }},
		{"queue 0: cursor", func(s *virtio.TransportState) { s.Queues[0].Cursor = nil }},
		{"queue 0: cursor", func(s *virtio.TransportState) { s.Queues[0].Enabled = false }},
		{"returned", func(s *virtio.TransportState) { s.Queues[0].Cursor.Returned = []uint16{60000} }},
		{"returned", func(s *virtio.TransportState) { s.Queues[0].Cursor.Returned = []uint16{1, 1} }},
	}
	pci := []struct {
		want string
		edit func(s *virtio.TransportState)
	}{
		{"pci", func(s *virtio.TransportState) { s.PCI = nil }},
		{"queue_vectors", func(s *virtio.TransportState) { s.PCI.QueueVectors = nil }},
		{"window", func(s *virtio.TransportState) { s.PCI.Window = nil }},
		{"bar", func(s *virtio.TransportState) { s.PCI.Function.BAR += 0x100 }},
		{"msix", func(s *virtio.TransportState) { s.PCI.Function.MSIX = nil }},
		{"vector 0", func(s *virtio.TransportState) { s.PCI.Function.MSIX.Vectors[0].Entry = nil }},
	}
	onEach(t, func(t *testing.T, s subject, start func() *virtiotest.Driver) {
		d := start()
		d.SetUp(^virtio.Features(0))
		text := d.State()
		all := edits
		if strings.Contains(string(text), `"pci"`) {
			all = append(all, pci...)
		}
		for _, e := range all {
			var state virtio.TransportState
			if err := json.Unmarshal(text, &state); err != nil {
				t.Fatal(err)
			}
			e.edit(&state)
			edited, err := json.Marshal(state)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Restore(s.open(t), edited); err == nil || !strings.Contains(err.Error(), e.want) {
				t.Errorf("%v; want %q", err, e.want)
			}
		}
	})
}
