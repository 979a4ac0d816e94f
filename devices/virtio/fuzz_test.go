package virtio_test

import (
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// Whatever the driver does, the device survives it and works after a reset.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{3, 0, 1, 2, 40, 0, 10, 0, 1, 7, 5, 6, 9})
	f.Add([]byte{0, 0, 1, 10, 0, 5, 3, 1, 2, 5, 0, 1, 11, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		d := virtiotest.New(t, &echo{})
		d.Play(script)
		d.SetUp(virtio.FeatureEventIdx)
		if n := d.Do(1, d.Out([]byte("alive")), d.In(5)); n != 5 {
			t.Errorf("%d bytes; want 5", n)
		}
	})
}
