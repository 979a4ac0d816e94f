package boottimer

import "testing"

func TestTimer(t *testing.T) {
	n := 0
	d := New(func() { n++ })
	for _, data := range [][]byte{{0}, {122}, {123, 0, 0, 0}, {123}, {124}} {
		d.Write(0, data)
	}
	if n != 1 {
		t.Errorf("booted %d times; want 1: a byte of 123", n)
	}
	data := []byte{0xff}
	if d.Read(0, data); data[0] != 0 {
		t.Errorf("read %#x; want 0", data[0])
	}
}
