package virtio_test

import (
	"testing"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// Rings show what driver and device have put into them.
func TestRings(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, 0)
	transport := d.Regs.(*virtio.MMIO)
	out, in := d.Out([]byte("hello")), d.In(8)
	if n := d.Do(1, out, in); n != 5 {
		t.Fatalf("%d bytes; want 5", n)
	}
	r, ok := transport.Rings(1)
	if !ok || r.Size != 8 || r.Cut || r.AvailIdx != 1 || r.UsedIdx != 1 || r.Depth != 0 || len(r.Descriptors) != 8 {
		t.Fatalf("%+v, %v", r, ok)
	}
	head := r.AvailRing[0]
	first := r.Descriptors[head]
	if first.Len != 5 || first.Write || first.Next == nil {
		t.Fatalf("the chain begins with %+v", first)
	}
	if second := r.Descriptors[*first.Next]; second.Len != 8 || !second.Write || second.Next != nil {
		t.Errorf("and goes on with %+v", second)
	}
	if r.UsedRing[0] != (virtio.Used{ID: uint32(head), Len: 5}) {
		t.Errorf("it came back as %+v", r.UsedRing[0])
	}
	for _, i := range []int{-1, 2} {
		if _, ok := transport.Rings(i); ok {
			t.Errorf("there is a queue %d", i)
		}
	}
	d.Reset()
	if _, ok := transport.Rings(1); ok {
		t.Error("after a reset there is a queue")
	}
}

// Registers can be shown, on both transports.
func TestShow(t *testing.T) {
	mmio := virtiotest.Start(t, &echo{}, 0)
	pci, root, _ := virtiotest.NewPCI(t, &echo{})
	pci.SetUp(0)
	values := map[string]uint64{}
	for _, s := range []devices.Device{mmio.Regs, root.ECAM()} {
		for _, v := range s.(devices.Shower).Show() {
			values[v.Register] = v.Value
		}
	}
	root.Memory().Each(func(_, _ uint64, _ string, d devices.Device) {
		d.(*devices.Bus).Each(func(_, _ uint64, _ string, d devices.Device) {
			if s, ok := d.(devices.Shower); ok {
				for _, v := range s.Show() {
					values[v.Register] = v.Value
				}
			}
		})
	})
	for name, want := range map[string]uint64{
		"MagicValue": 0x7472_6976, "DeviceID": 42, "Status": 15,
		"device_status": 15, "num_queues": 2, "00:01.0 Vendor ID": 0x1af4, "00:01.0 BAR 0": virtiotest.WindowAddr | 4,
		"MSI-X 1 Message Data": 0x41, "MSI-X 1 Vector Control": 0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %#x; want %#x", name, got, want)
		}
	}
}
