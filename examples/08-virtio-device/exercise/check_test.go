//go:build amd64 && (solutions || lesson)

package exercise

import (
	"encoding/binary"
	"testing"

	"vmm/devices/virtio/virtiotest"
)

// start has a driver use the device, as a guest's does.
func start(t *testing.T) *virtiotest.Driver {
	t.Helper()
	device := NewAdder()
	if device == nil {
		t.Fatal("there is no device yet")
	}
	return virtiotest.Start(t, device, 0)
}

func numbers(all ...uint32) (b []byte) {
	for _, n := range all {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

func TestAdd(t *testing.T) {
	d := start(t)
	for _, tt := range []struct {
		in   []byte
		want uint64
	}{
		{numbers(1, 2, 3), 6},
		{numbers(1<<32-1, 1<<32-1), 1<<33 - 2},
		{append(numbers(5), 1, 2, 3), 5},
		{numbers(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 100), 16},
	} {
		out := d.In(8)
		if n := d.Do(0, d.Out(tt.in), out); n != 8 || binary.LittleEndian.Uint64(out.Data) != tt.want {
			t.Errorf("% x: %d bytes written, % x; want %d", tt.in, n, out.Data, tt.want)
		}
	}
	// In pieces of any size.
	out1, out2 := d.In(3), d.In(5)
	in := numbers(0x0102_0304, 0x1020_3040)
	if n := d.Do(0, d.Out(in[:1]), d.Out(in[1:7]), d.Out(in[7:]), out1, out2); n != 8 || out1.Data[0] != 0x44 || out2.Data[0] != 0x11 {
		t.Errorf("in pieces: %d bytes, % x % x", n, out1.Data, out2.Data)
	}
	// Without room for the answer.
	if n := d.Do(0, d.Out(in), d.In(7)); n != 0 {
		t.Errorf("%d bytes written where 8 have no room", n)
	}
}

func TestConfiguration(t *testing.T) {
	d := start(t)
	if got := binary.LittleEndian.Uint64(d.Config(0, 8)); got != Maximum {
		t.Errorf("the configuration space says %d; want %d", got, Maximum)
	}
	if got := d.Config(8, 1)[0]; got != 0xff {
		t.Errorf("behind it is %#x; want 0xff", got)
	}
	d.Reset()
	d.SetUp(0)
	if n := d.Do(0, d.Out(numbers(1)), d.In(8)); n != 8 {
		t.Errorf("after a reset: %d bytes", n)
	}
}
