package virtio_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
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

// A driver that accepts too much, too little, or skips a step gets the features
// that are left, and the user one warning.
func TestNegotiation(t *testing.T) {
	const driver = virtiotest.StatusAcknowledge | virtiotest.StatusDriver
	const all = driver | virtiotest.StatusFeaturesOK | virtiotest.StatusDriverOK
	for _, tt := range []struct {
		name     string
		accept   virtio.Features
		steps    []uint32 // of the status
		want     virtio.Features
		warnings []string // parts of them
	}{
		{"all", echoFeature | virtio.FeatureVersion1, []uint32{11, all}, echoFeature | virtio.FeatureVersion1, nil},
		{"the least", virtio.FeatureVersion1, []uint32{11, all}, virtio.FeatureVersion1, nil},
		{"a legacy driver", echoFeature, []uint32{11, all}, echoFeature, []string{"VERSION_1"}},
		{"none at all", 0, []uint32{11, all}, 0, []string{"VERSION_1"}},
		{"a feature that is not offered", virtio.FeatureVersion1 | 1<<7, []uint32{11, all}, virtio.FeatureVersion1, []string{"0x80"}},
		{"a feature of a later word", virtio.FeatureVersion1 | 1<<40, []uint32{11, all}, virtio.FeatureVersion1, []string{"0x10000000000"}},
		{"everything", ^virtio.Features(0), []uint32{11, all},
			echoFeature | virtio.FeatureIndirect | virtio.FeatureEventIdx | virtio.FeatureVersion1, []string{"not offered"}},
		{"no FEATURES_OK", virtio.FeatureVersion1 | 1<<7, []uint32{driver | virtiotest.StatusDriverOK}, virtio.FeatureVersion1,
			[]string{"0x80", "without FEATURES_OK"}},
		{"all steps at once", virtio.FeatureVersion1, []uint32{all}, virtio.FeatureVersion1, nil},
		{"bits one at a time", virtio.FeatureVersion1, []uint32{8, 4}, virtio.FeatureVersion1, []string{"0x3"}},
		{"bits that do not exist", virtio.FeatureVersion1, []uint32{11, all | 0x30}, virtio.FeatureVersion1, []string{"0x30"}},
	} {
		for _, transport := range transports {
			t.Run(transport.name+" "+tt.name, func(t *testing.T) {
				e := &echo{}
				w := &warnings{}
				d := transport.start(t, e, slog.New(w))
				for range 3 { // the warnings come once
					d.Reset()
					d.SetStatus(virtiotest.StatusAcknowledge)
					d.SetStatus(driver)
					d.Accept(tt.accept)
					d.AddRings(tt.want)
					for _, s := range tt.steps {
						d.SetStatus(s)
					}
					if e.env == nil || e.env.Features != tt.want {
						t.Fatalf("the device gets %+v; want %#x", e.env, tt.want)
					}
					if n := d.Do(0, d.Out([]byte("hello")), d.In(8)); n != 5 {
						t.Errorf("%d bytes; want 5", n)
					}
				}
				got := w.texts()
				if len(tt.warnings) == 0 && len(got) > 0 || len(got) < len(tt.warnings) && len(got) != 1 {
					t.Errorf("warnings %q; want of %q", got, tt.warnings)
				}
				if all := strings.Join(got, "\n"); !containsAll(all, tt.warnings) {
					t.Errorf("warnings %q; want of %q", got, tt.warnings)
				}
				if seen := slices.Compact(slices.Sorted(slices.Values(got))); len(seen) != len(got) {
					t.Errorf("doubled warnings: %q", got)
				}
			})
		}
	}
}

func containsAll(s string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(s, part) })
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
