package rng

import (
	"testing"

	"vmm/devices/virtio/virtiotest"
)

func FuzzDevice(f *testing.F) {
	f.Add([]byte{3, 0, 0, 1, 40, 0, 10, 0, 5, 6, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		d := virtiotest.New(t, New())
		d.Play(script)
		d.SetUp(0)
		if n := d.Do(0, d.In(16)); n != 16 {
			t.Errorf("%d bytes; want 16", n)
		}
	})
}
