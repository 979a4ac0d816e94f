package virtio_test

import (
	"errors"
	"testing"
	"time"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

func TestIdentity(t *testing.T) {
	d := virtiotest.New(t, &echo{})
	for reg, want := range map[uint64]uint32{0x0: 0x74726976, 0x4: 2, 0x8: 42, 0xb0: 0xffff_ffff, 0x34: 256} {
		if got := d.Get(reg); got != want {
			t.Errorf("register %#x = %#x; want %#x", reg, got, want)
		}
	}
	want := echoFeature | virtio.FeatureIndirect | virtio.FeatureEventIdx | virtio.FeatureVersion1
	if got := d.Offered(); got != want {
		t.Errorf("offers %#x; want %#x", got, want)
	}
}

func TestNegotiation(t *testing.T) {
	const driver = virtiotest.StatusAcknowledge | virtiotest.StatusDriver
	for _, tt := range []struct {
		name   string
		accept virtio.Features
		ok     bool
	}{
		{"all", echoFeature | virtio.FeatureVersion1, true},
		{"the least", virtio.FeatureVersion1, true},
		{"a legacy driver", echoFeature, false},
		{"a feature that is not offered", virtio.FeatureVersion1 | 1<<7, false},
		{"a feature of a later word", virtio.FeatureVersion1 | 1<<40, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &echo{}
			d := virtiotest.New(t, e)
			d.SetStatus(driver)
			d.Accept(tt.accept)
			d.SetStatus(driver | virtiotest.StatusFeaturesOK)
			if ok := d.Status()&virtiotest.StatusFeaturesOK != 0; ok != tt.ok {
				t.Fatalf("FEATURES_OK is %v; want %v", ok, tt.ok)
			}
			d.SetStatus(driver | virtiotest.StatusDriverOK)
			if started := e.env != nil; started != tt.ok {
				t.Errorf("started: %v; want %v", started, tt.ok)
			}
			if tt.ok && e.env.Features != tt.accept {
				t.Errorf("the device gets %#x; want %#x", e.env.Features, tt.accept)
			}
		})
	}
}

// What the driver says too late does not count.
func TestFrozenOnceActive(t *testing.T) {
	e := &echo{}
	d := virtiotest.Start(t, e, 0)
	d.Set(0x30, 0)
	d.Set(0x44, 0)
	d.Set(0x80, 0x1234_5670)
	d.Set(0x38, 3)
	d.Accept(0)
	if d.Get(0x44) != 1 {
		t.Error("the queue was taken out of service")
	}
	if n := d.Do(0, d.Out([]byte("x")), d.In(1)); n != 1 {
		t.Errorf("%d bytes; want 1", n)
	}
	if e.env.Features != virtio.FeatureVersion1 {
		t.Errorf("features changed to %#x", e.env.Features)
	}
}

// Status bits cannot be taken back but by a reset.
func TestStatusOnlyGrows(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, 0)
	d.SetStatus(virtiotest.StatusAcknowledge)
	if s := d.Status(); s != 0xf {
		t.Errorf("status %#x; want 0xf", s)
	}
	d.SetStatus(0xffff_ffff)
	if s := d.Status(); s != 0x8f {
		t.Errorf("status %#x; want 0x8f: FAILED, but not NEEDS_RESET", s)
	}
}

func TestActivateFails(t *testing.T) {
	e := &echo{fail: errors.New("no")}
	d := virtiotest.New(t, e)
	d.SetStatus(3)
	d.Accept(virtio.FeatureVersion1)
	d.SetStatus(0xb)
	d.SetStatus(0xf)
	if s := d.Status(); s&virtiotest.StatusNeedsReset == 0 {
		t.Errorf("status %#x; want a need for reset", s)
	}
	d.Reset()
	e.fail = nil
	d.SetUp(0)
	if n := d.Do(0, d.Out([]byte("x")), d.In(1)); n != 1 {
		t.Errorf("after the reset: %d bytes; want 1", n)
	}
}

// A queue in a place that is not RAM keeps the device from starting.
func TestQueueOutsideRAM(t *testing.T) {
	d := virtiotest.New(t, &echo{})
	d.SetStatus(3)
	d.Accept(virtio.FeatureVersion1)
	d.SetStatus(0xb)
	d.AddRings(0)
	d.Set(0x30, 0)
	d.Set(0x44, 0) // out of service: it may be set up again
	d.Set(0x80, virtiotest.MemorySize)
	d.Set(0x44, 1)
	d.SetStatus(0xf)
	if s := d.Status(); s&virtiotest.StatusNeedsReset == 0 {
		t.Errorf("status %#x; want a need for reset", s)
	}
}

// A queue that the driver does not use is no obstacle, nor is its doorbell.
func TestUnusedQueue(t *testing.T) {
	e := &echo{}
	d := virtiotest.New(t, e)
	d.SetStatus(3)
	d.Accept(virtio.FeatureVersion1)
	d.SetStatus(0xb)
	d.AddRings(0)
	d.Set(0x30, 1)
	d.Set(0x44, 0)
	d.SetStatus(0xf)
	if e.env == nil || e.env.Queues[1] != nil {
		t.Fatal("the device has a queue that was not enabled")
	}
	for _, queue := range []int{1, 2, 1000, 1 << 31} {
		d.Kick(queue)
	}
	if n := d.Do(0, d.Out([]byte("x")), d.In(1)); n != 1 {
		t.Errorf("%d bytes; want 1", n)
	}
}

func TestConfigChange(t *testing.T) {
	e := &echo{}
	d := virtiotest.Start(t, e, 0)
	before := d.Generation()
	e.change(0x1122_3344_5566_7788)
	if !d.WaitInterrupt(time.Second) || d.Reasons() != 2 {
		t.Error("no interrupt for the configuration")
	}
	if d.Reasons() != 0 {
		t.Error("the interrupt is still there when acknowledged")
	}
	if d.Generation() == before {
		t.Error("the generation did not change")
	}
	if v := le.Uint64(d.Config(0, 8)); v != 0x1122_3344_5566_7788 {
		t.Errorf("configuration %#x", v)
	}
	if c := d.Config(6, 4); string(c) != "\x22\x11\xff\xff" {
		t.Errorf("past the end: % x; want ones", c)
	}
}

// Registers are there at their own width only; nothing else does anything.
func TestOddAccesses(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, 0)
	for _, offset := range []uint64{0, 1, 2, 0x44, 0x70, 0x71, 0xfc, 0xff} {
		for _, n := range []int{1, 2, 8} {
			d.Regs.Write(offset, make([]byte, n)) // zeroes: at 0x70 a reset, if it were one
			d.Regs.Read(offset, make([]byte, n))
		}
	}
	if n := d.Do(0, d.Out([]byte("x")), d.In(1)); n != 1 {
		t.Errorf("%d bytes; want 1", n)
	}
}

// A reset while requests are under way leaves nothing running.
func TestResetWhileBusy(t *testing.T) {
	d := virtiotest.New(t, &echo{})
	out, in := []byte("busy"), d.In(4)
	data := d.Out(out)
	for range 200 {
		d.SetUp(virtio.FeatureEventIdx)
		for range 50 {
			d.Rings[0].Add(data, in)
			d.Kick(0)
		}
		d.Reset()
		clear(in.Data)
		used, err := d.Memory.Slice(d.Rings[0].Used, 64)
		if err != nil {
			t.Fatal(err)
		}
		before := string(used)
		time.Sleep(10 * time.Microsecond)
		if string(used) != before || string(in.Data) != "\x00\x00\x00\x00" {
			t.Fatal("the device writes to guest memory after a reset")
		}
	}
}

func TestClose(t *testing.T) {
	e := &echo{}
	t.Run("driver", func(t *testing.T) { virtiotest.Start(t, e, 0) })
	if !e.closed || e.workers != nil {
		t.Error("the device was not closed")
	}
}
