package rng

import (
	"bytes"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

func TestRandom(t *testing.T) {
	for name, features := range map[string]virtio.Features{
		"plain": 0, "event index": virtio.FeatureEventIdx,
	} {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.Start(t, New(), features)
			seen := make([]byte, 64)
			for range 1000 {
				b := d.In(64)
				if n := d.Do(0, b); n != 64 {
					t.Fatalf("%d bytes; want 64", n)
				}
				if bytes.Equal(b.Data, seen) {
					t.Fatal("the same bytes twice")
				}
				copy(seen, b.Data)
			}
		})
	}
}

// A request for more than a reasonable amount gets a part of it.
func TestHugeRequest(t *testing.T) {
	d := virtiotest.Start(t, New(), 0)
	a, b := d.In(1000), d.In(8<<20)
	if n := d.Do(0, a, b); n != maxRequest {
		t.Errorf("%d bytes; want %d", n, maxRequest)
	}
	if rest := b.Data[maxRequest-1000:]; !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Error("more was written than reported")
	}
}

// A buffer that cannot be written to gives nothing, and harms nothing.
func TestReadableRequest(t *testing.T) {
	d := virtiotest.Start(t, New(), 0)
	if n := d.Do(0, d.Out([]byte("x"))); n != 0 {
		t.Errorf("%d bytes; want none", n)
	}
}

func TestReset(t *testing.T) {
	d := virtiotest.New(t, New())
	for range 20 {
		d.SetUp(virtio.FeatureEventIdx)
		for range 10 {
			if n := d.Do(0, d.In(16)); n != 16 {
				t.Fatalf("%d bytes; want 16", n)
			}
		}
		d.Reset()
		if s := d.Status(); s != 0 {
			t.Fatalf("status %#x after a reset", s)
		}
	}
}
