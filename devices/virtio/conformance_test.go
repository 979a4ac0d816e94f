package virtio_test

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// What drivers may do, of which no other test makes use: docs/virtio-conformance.md
// has the whole table.

// poll waits for a chain without an interrupt.
func poll(t *testing.T, r *virtiotest.Ring) (n uint32) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Microsecond) {
		if _, n, ok := r.Take(); ok {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatal("the device gives nothing back")
		}
	}
}

// All queues may share a vector, or have none and be polled; a vector that does not
// exist reads back as none. virtio §4.1.5.1.2.
func TestVectors(t *testing.T) {
	for _, vector := range []uint16{0, 2, 3, 0xffff} {
		d, root, _ := virtiotest.NewPCI(t, &echo{})
		d.SetUp(0)
		regs := root.Memory()
		for q := range d.Rings {
			regs.Write(virtiotest.WindowAddr+0x16, le.AppendUint16(nil, uint16(q)))
			regs.Write(virtiotest.WindowAddr+0x1a, le.AppendUint16(nil, vector))
			want := vector
			if vector > 2 {
				want = 0xffff
			}
			if got := le.Uint16(readBytes(regs, virtiotest.WindowAddr+0x1a, 2)); got != want {
				t.Errorf("queue %d: vector %#x reads as %#x; want %#x", q, vector, got, want)
			}
		}
		for q, r := range d.Rings {
			d.WaitInterrupt(0)
			r.WantInterrupt(true)
			r.Add(d.Out([]byte("hello")), d.In(8))
			d.Kick(q)
			if n := poll(t, r); n != 5 {
				t.Errorf("queue %d: %d bytes; want 5", q, n)
			}
			patience := 20 * time.Second
			if vector > 2 {
				patience = 5 * time.Millisecond
			}
			if got := d.WaitInterrupt(patience); got != (vector <= 2) {
				t.Errorf("queue %d, vector %#x: an interrupt came: %v", q, vector, got)
			}
		}
	}
}

// Doorbells may ring for nothing, before DRIVER_OK, and after NEEDS_RESET; queues may
// be set up in any order, and a driver may do without interrupts.
func TestLooseDriver(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			d := transport.start(t, &echo{}, slog.New(slog.DiscardHandler))
			d.Kick(0)
			d.SetStatus(3)
			d.Accept(virtio.FeatureVersion1)
			d.SetStatus(0xb)
			d.AddRings(0)
			rings := d.Rings
			d.Reset()
			d.SetStatus(3)
			d.Accept(virtio.FeatureVersion1)
			d.SetStatus(0xb)
			for _, q := range []int{1, 0} {
				d.Enable(q, rings[q])
			}
			// Available before the device is started, and rung for too early.
			rings[0].WantInterrupt(false)
			rings[0].Add(d.Out([]byte("early")), d.In(8))
			d.Kick(0)
			d.SetStatus(0xf)
			if n := poll(t, rings[0]); n != 5 {
				t.Errorf("%d bytes; want 5", n)
			}
			for range 100 {
				d.Kick(1)
			}
			rings[1].Add(d.Out([]byte("hello")), d.In(8))
			d.Kick(1)
			if n := poll(t, rings[1]); n != 5 {
				t.Errorf("%d bytes; want 5", n)
			}
			rings[1].SetAvail(9999)
			d.Kick(1)
			d.WaitStatus(virtiotest.StatusNeedsReset)
			for range 100 {
				d.Kick(1)
			}
			d.Reset()
			d.SetUp(0)
			if n := d.Do(1, d.Out([]byte("again")), d.In(8)); n != 5 {
				t.Errorf("after the reset: %d bytes; want 5", n)
			}
		})
	}
}

// After DRIVER_OK, four vCPUs rewrite all that can be written of the queues: nothing
// of it counts, and both queues go on.
func TestRewriteWhileActive(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			e := &echo{}
			d := transport.start(t, e, slog.New(slog.DiscardHandler))
			d.SetUp(virtio.FeatureEventIdx)
			state := func() [][4]uint64 {
				var all [][4]uint64
				for q := range uint32(2) {
					d.Set(0x30, q)
					ready := d.Get(0x44)
					live := e.env.Queues[q]
					all = append(all, [4]uint64{uint64(q), uint64(ready), uint64(live.Size()), 0})
				}
				return all
			}
			before := state()
			done := make(chan struct{})
			var cpus sync.WaitGroup
			for cpu := range uint64(4) {
				cpus.Go(func() {
					r := rand.New(rand.NewPCG(1, cpu))
					regs := []uint64{0x20, 0x24, 0x30, 0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4}
					for {
						select {
						case <-done:
							return
						default:
							d.Set(regs[r.IntN(len(regs))], r.Uint32()>>r.IntN(32))
						}
					}
				})
			}
			out, in := d.Out([]byte("hello")), d.In(8)
			for i := range 300 {
				r := d.Rings[i%2]
				r.Add(out, in)
				d.Kick(i % 2)
				if n := poll(t, r); n != 5 || string(in.Data[:5]) != "hello" {
					t.Fatalf("%d bytes %q; want hello", n, in.Data)
				}
				clear(in.Data)
			}
			close(done)
			cpus.Wait()
			if diff := cmp.Diff(before, state()); diff != "" {
				t.Errorf("queues changed (-before +after)\n%s", diff)
			}
			if s := d.Status(); s != 0xf {
				t.Errorf("status %#x; want 0xf", s)
			}
		})
	}
}
