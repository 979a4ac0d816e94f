package virtio_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
	"vmm/memory"
)

// The features of queues, in all combinations.
var queueFeatures = []virtio.Features{0, virtio.FeatureIndirect, virtio.FeatureEventIdx, virtio.FeatureIndirect | virtio.FeatureEventIdx}

func TestEcho(t *testing.T) {
	for _, f := range queueFeatures {
		t.Run(fmt.Sprintf("features %#x", uint64(f)), func(t *testing.T) {
			d := virtiotest.Start(t, &echo{}, f)
			out := [][]byte{[]byte("hello, "), []byte("virtio"), bytes.Repeat([]byte("!"), 5000)}
			in := []virtiotest.Buffer{d.In(3), d.In(6000)}
			// Often enough for the indices to pass 65536 in some other test;
			// here for every place in the ring.
			for range 1000 {
				n := d.Do(0, virtiotest.Buffer{Addr: d.Out(out[0]).Addr, Data: out[0]}, in[0])
				if n != 3 || string(in[0].Data) != "hel" {
					t.Fatalf("%d bytes %q; want 3, hel", n, in[0].Data)
				}
			}
			bufs := []virtiotest.Buffer{d.Out(out[0]), d.Out(out[1]), d.Out(out[2]), in[0], in[1]}
			want := bytes.Join(out, nil)
			if n := d.Do(1, bufs...); int(n) != len(want) {
				t.Fatalf("%d bytes; want %d", n, len(want))
			}
			if got := append(bytes.Clone(in[0].Data), in[1].Data...)[:len(want)]; !bytes.Equal(got, want) {
				t.Errorf("got %.40q", got)
			}
		})
	}
}

// Indices wrap around at 65536; nothing is lost or doubled under load, with
// driver and device working at the same time.
func TestLoad(t *testing.T) {
	for _, f := range queueFeatures {
		t.Run(fmt.Sprintf("features %#x", uint64(f)), func(t *testing.T) {
			d := virtiotest.Start(t, &echo{}, f)
			r := d.Rings[0]
			const total, slots = 150_000, 100
			type slot struct{ out, in virtiotest.Buffer }
			free := make([]slot, slots)
			for i := range free {
				free[i] = slot{d.Out(make([]byte, 4)), d.In(4)}
			}
			busy := map[uint16]slot{}
			sent, received := uint32(0), uint32(0)
			doorbells := 0
			for received < total {
				old := r.Available()
				for len(free) > 0 && sent < total {
					s := free[len(free)-1]
					free = free[:len(free)-1]
					le.PutUint32(s.out.Data, sent)
					sent++
					busy[r.Add(s.out, s.in)] = s
				}
				if r.Available() != old && r.WantsDoorbell(old) {
					doorbells++
					d.Kick(0)
				}
				r.WantInterrupt(false)
				for again := true; again; {
					head, n, ok := r.Take()
					if !ok {
						r.WantInterrupt(true)
						if head, n, ok = r.Take(); !ok {
							if len(free) == 0 || sent == total && received < total {
								if !d.WaitInterrupt(20 * time.Second) {
									t.Fatalf("no interrupt: %d sent, %d received", sent, received)
								}
								continue
							}
							break
						}
					}
					s, found := busy[head]
					if !found || n != 4 || le.Uint32(s.in.Data) != le.Uint32(s.out.Data) {
						t.Fatalf("chain %d came back with %d bytes, known: %v", head, n, found)
					}
					delete(busy, head)
					free = append(free, s)
					received++
					again = received < total
				}
			}
			t.Logf("%d doorbells for %d chains", doorbells, total)
		})
	}
}

// The driver that does not want interrupts gets none.
func TestInterruptSuppression(t *testing.T) {
	for _, f := range queueFeatures {
		t.Run(fmt.Sprintf("features %#x", uint64(f)), func(t *testing.T) {
			d := virtiotest.Start(t, &echo{}, f)
			r := d.Rings[0]
			r.WantInterrupt(false)
			d.WaitInterrupt(0)
			r.Add(d.Out([]byte("x")), d.In(1))
			d.Kick(0)
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				if _, _, ok := r.Take(); ok {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the device does not answer")
				}
			}
			if d.WaitInterrupt(50 * time.Millisecond) {
				t.Error("an interrupt that the driver does not want")
			}
		})
	}
}

// signals counts interrupts.
type signals int

func (s *signals) Signal() { *s++ }

// Small chains share an interrupt, a large one has its own, and none is lost.
func TestNotifySoon(t *testing.T) {
	d := virtiotest.Start(t, &echo{inactive: true}, 0)
	r := d.Rings[0]
	var interrupts signals
	q, err := virtio.NewQueue(d.Memory, virtio.QueueConfig{Size: uint16(r.Size), Desc: r.Desc, Avail: r.Avail, Used: r.Used}, nil, &interrupts, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := d.In(1)
	var c virtio.Chain
	push := func(n uint64) {
		r.Add(b)
		if !q.Pop(&c) {
			t.Fatal("nothing to pop")
		}
		q.Push(&c, 1)
		q.NotifySoon(n)
		r.Take()
	}
	for _, step := range []struct {
		n    uint64
		want signals
	}{{4096, 0}, {4096, 0}, {1 << 20, 1}, {60 << 10, 1}, {4 << 10, 2}, {1, 2}} {
		if push(step.n); interrupts != step.want {
			t.Errorf("after %d bytes more: %d interrupts; want %d", step.n, interrupts, step.want)
		}
	}
	if q.Notify(); interrupts != 3 {
		t.Errorf("in the end: %d interrupts; want 3", interrupts)
	}
}

// putIndirect makes a chain of one indirect table and makes it available.
func putIndirect(d *virtiotest.Driver, bufs ...virtiotest.Buffer) {
	table := d.In(16 * len(bufs))
	for i, b := range bufs {
		var flags uint16
		if b.Write {
			flags |= virtiotest.Write
		}
		if i < len(bufs)-1 {
			flags |= virtiotest.Next
		}
		virtiotest.PutDesc(table.Data[16*i:], b.Addr, uint32(len(b.Data)), flags, uint16(i+1))
	}
	d.Rings[0].SetDesc(0, table.Addr, uint32(len(table.Data)), virtiotest.Indirect, 0)
	d.Rings[0].Offer(0)
}

// An indirect table may have as many descriptors as the queue. Linux makes such
// requests of a disk when it writes much at once.
func TestLargestIndirect(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, virtio.FeatureIndirect)
	size := d.Rings[0].Free()
	bufs := make([]virtiotest.Buffer, size)
	for i := range bufs {
		bufs[i] = d.Out([]byte{byte(i)})
	}
	in := d.In(size)
	bufs[size-1] = in
	putIndirect(d, bufs...)
	d.Kick(0)
	if _, n := d.Wait(0); int(n) != size-1 || in.Data[size-2] != byte(size-2) {
		t.Errorf("%d bytes: % x; want %d", n, in.Data, size-1)
	}
}

func TestIndirect(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, virtio.FeatureIndirect)
	in := d.In(20)
	putIndirect(d, d.Out([]byte("in")), d.Out([]byte("direct")), in)
	d.Kick(0)
	if _, n := d.Wait(0); n != 8 || string(in.Data[:8]) != "indirect" {
		t.Errorf("%d bytes: %q", n, in.Data)
	}
}

// A ring that makes no sense breaks the device until it is reset; a driver that
// resets it can use it again.
func TestBrokenRing(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(d *virtiotest.Driver, r *virtiotest.Ring)
	}{
		{"more available than there are", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.SetAvail(257) }},
		{"index far off", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.SetAvail(0xffff) }},
		{"no such head", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Offer(256) }},
		{"no such next", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(1).Addr, 1, virtiotest.Next, 300)
			r.Offer(0)
		}},
		{"loop", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(1).Addr, 1, virtiotest.Next, 1)
			r.SetDesc(1, d.In(1).Addr, 1, virtiotest.Next, 0)
			r.Offer(0)
		}},
		{"loop of nothing", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(1).Addr, 0, virtiotest.Next, 0)
			r.Offer(0)
		}},
		{"buffer past the end of RAM", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, virtiotest.MemorySize-1, 2, 0, 0)
			r.Offer(0)
		}},
		{"buffer past the end of addresses", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, ^uint64(0)-1, 0xffff_ffff, virtiotest.Write, 0)
			r.Offer(0)
		}},
		{"longer than 4 GiB", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			for i := range uint16(128) {
				r.SetDesc(i, 0, 48<<20, virtiotest.Next|virtiotest.Write, i+1)
			}
			r.SetDesc(128, 0, 1, virtiotest.Write, 0)
			r.Offer(0)
		}},
		{"readable after writable", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(1).Addr, 1, virtiotest.Next|virtiotest.Write, 1)
			r.SetDesc(1, d.In(1).Addr, 1, 0, 0)
			r.Offer(0)
		}},
		{"indirect of an odd size", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(64).Addr, 24, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
		{"empty indirect", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(64).Addr, 0, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
		{"indirect outside RAM", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, virtiotest.MemorySize-16, 32, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
		{"indirect that goes on", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(16).Addr, 16, virtiotest.Indirect|virtiotest.Next, 1)
			r.Offer(0)
		}},
		{"indirect in indirect", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			table := d.In(16)
			virtiotest.PutDesc(table.Data, d.In(16).Addr, 16, virtiotest.Indirect, 0)
			r.SetDesc(0, table.Addr, 16, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
		{"indirect that is the descriptor table", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, r.Desc, 16*8, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
		{"indirect that is a part of the descriptor table", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			r.SetDesc(0, d.In(1).Addr, 1, virtiotest.Next, 1)
			r.SetDesc(1, r.Desc+16, 16, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
		{"indirect past its end", func(d *virtiotest.Driver, r *virtiotest.Ring) {
			table := d.In(16)
			virtiotest.PutDesc(table.Data, d.In(16).Addr, 16, virtiotest.Next, 1)
			r.SetDesc(0, table.Addr, 16, virtiotest.Indirect, 0)
			r.Offer(0)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := virtiotest.Start(t, &echo{}, virtio.FeatureIndirect)
			tt.spoil(d, d.Rings[0])
			d.Kick(0)
			d.WaitStatus(virtiotest.StatusNeedsReset)
			if !d.WaitInterrupt(time.Second) || d.Reasons()&2 == 0 {
				t.Error("the driver is not told with a configuration interrupt")
			}
			// The other queue goes on.
			if n := d.Do(1, d.Out([]byte("x")), d.In(1)); n != 1 {
				t.Errorf("the other queue: %d bytes; want 1", n)
			}
			d.Kick(0)
			d.Reset()
			d.SetUp(0)
			if n := d.Do(0, d.Out([]byte("again")), d.In(8)); n != 5 {
				t.Errorf("after the reset: %d bytes; want 5", n)
			}
		})
	}
}

// An indirect table is for a driver that has accepted the feature.
func TestIndirectNotAccepted(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, 0)
	putIndirect(d, d.Out([]byte("x")), d.In(1))
	d.Kick(0)
	d.WaitStatus(virtiotest.StatusNeedsReset)
}

// warnings counts the warnings of a log.
type warnings struct {
	slog.Handler
	mu  sync.Mutex
	all []string
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += " " + a.String()
			return true
		})
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, text)
	}
	return nil
}

// texts are the warnings so far.
func (w *warnings) texts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

// A driver that makes a chain available again which the device still has breaks its
// queue, on both transports: no more chains are in flight than the queue has room
// for, whatever the driver does.
func TestChainInFlight(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			e := &echo{holds: true}
			w := &warnings{}
			d := transport.start(t, e, slog.New(w))
			d.SetUp(0)
			r := d.Rings[0]
			r.SetDesc(0, d.In(1).Addr, 1, virtiotest.Write, 0)
			r.SetDesc(1, d.In(1).Addr, 1, virtiotest.Write, 0)
			r.Offer(0)
			r.Offer(1)
			d.Kick(0)
			for range 1000 {
				r.Offer(0)
				d.Kick(0)
			}
			d.WaitStatus(virtiotest.StatusNeedsReset)
			if n := e.env.Queues[0].InFlight(); n > 2 {
				t.Errorf("%d chains in flight; want 2 at the most", n)
			}
			if all := w.texts(); len(all) != 1 {
				t.Errorf("warnings %q; want one", all)
			}
			d.Reset()
			e.holds = false
			d.SetUp(0)
			if n := d.Do(0, d.Out([]byte("again")), d.In(8)); n != 5 {
				t.Errorf("after the reset: %d bytes; want 5", n)
			}
		})
	}
}

// A queue larger than the device has it keeps the device from starting; one that
// is smaller does not.
func TestQueueSize(t *testing.T) {
	for _, transport := range transports {
		for size, ok := range map[uint32]bool{0: false, 1: true, 3: false, 8: true, 16: false, 256: false, 1 << 15: false, 1<<16 - 1: false} {
			t.Run(fmt.Sprint(transport.name, " ", size), func(t *testing.T) {
				w := &warnings{}
				d := transport.start(t, &echo{}, slog.New(w))
				d.SetStatus(3)
				d.Accept(virtio.FeatureVersion1)
				d.SetStatus(0xb)
				d.AddRings(0)
				d.Rings[1].Size = int(size)
				d.Reset()
				d.SetStatus(3)
				d.Accept(virtio.FeatureVersion1)
				d.SetStatus(0xb)
				d.Enable(1, d.Rings[1])
				d.SetStatus(0xf)
				if got := d.Status()&virtiotest.StatusNeedsReset == 0; got != ok {
					t.Errorf("started: %v; want %v", got, ok)
				}
				if all := w.texts(); len(all) != 0 == ok {
					t.Errorf("warnings: %q", all)
				}
			})
		}
	}
}

func TestNewQueueRefuses(t *testing.T) {
	m, err := memory.New([]memory.Range{{Start: 0, Size: 1 << 20}}, memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	good := virtio.QueueConfig{Size: 256, Desc: 0x1000, Avail: 0x3000, Used: 0x4000}
	if _, err := virtio.NewQueue(m, good, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*virtio.QueueConfig){
		"size 0":              func(c *virtio.QueueConfig) { c.Size = 0 },
		"odd size":            func(c *virtio.QueueConfig) { c.Size = 100 },
		"unaligned table":     func(c *virtio.QueueConfig) { c.Desc += 8 },
		"unaligned available": func(c *virtio.QueueConfig) { c.Avail++ },
		"unaligned used":      func(c *virtio.QueueConfig) { c.Used += 2 },
		"table outside":       func(c *virtio.QueueConfig) { c.Desc = 1<<20 - 16 },
		"available outside":   func(c *virtio.QueueConfig) { c.Avail = 1<<20 - 2*256 - 4 },
		"used outside":        func(c *virtio.QueueConfig) { c.Used = 1<<20 - 8*256 - 4 },
		"far outside":         func(c *virtio.QueueConfig) { c.Desc = ^uint64(15) },
	} {
		c := good
		edit(&c)
		if _, err := virtio.NewQueue(m, c, nil, nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// The rings may end exactly where RAM does.
	edge := virtio.QueueConfig{Size: 256, Desc: 1<<20 - 16*256, Avail: 1<<20 - 2*256 - 6, Used: 1<<20 - 8*256 - 8}
	if _, err := virtio.NewQueue(m, edge, nil, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestBuffers(t *testing.T) {
	whole := func() virtio.Buffers { return virtio.Buffers{[]byte("ab"), []byte("c"), []byte("defg")} }
	b := whole()
	if b.Len() != 7 {
		t.Errorf("Len = %d", b.Len())
	}
	p := make([]byte, 4)
	if n := b.Read(p); n != 4 || string(p) != "abcd" || b.Len() != 3 {
		t.Errorf("Read = %d %q, %d left", n, p, b.Len())
	}
	b.Skip(1)
	if n := b.Read(p); n != 2 || string(p[:2]) != "fg" || b.Len() != 0 {
		t.Errorf("Read = %d %q, %d left", n, p[:2], b.Len())
	}
	b.Skip(1 << 40)
	b = whole()
	if last := b.CutLast(); string(last) != "g" || b.Len() != 6 {
		t.Errorf("CutLast = %q, %d left", last, b.Len())
	}
	b = virtio.Buffers{[]byte("x"), []byte("y")}
	if last := b.CutLast(); string(last) != "y" || b.Len() != 1 {
		t.Errorf("CutLast = %q, %d left", last, b.Len())
	}
	b.CutLast()
	if last := b.CutLast(); last != nil {
		t.Errorf("CutLast of nothing = %q", last)
	}
	data := [][]byte{make([]byte, 2), make([]byte, 3)}
	w := virtio.Buffers{data[0], data[1]}
	if n := w.Write([]byte("123456")); n != 5 || string(data[0])+string(data[1]) != "12345" {
		t.Errorf("Write = %d, %q", n, data)
	}
}

// Chains may be given back by several goroutines.
func TestPushConcurrently(t *testing.T) {
	d := virtiotest.Start(t, &echo{inactive: true}, 0)
	r := d.Rings[0]
	interrupt, err := devices.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer interrupt.Close()
	q, err := virtio.NewQueue(d.Memory, virtio.QueueConfig{Size: uint16(r.Size), Desc: r.Desc, Avail: r.Avail, Used: r.Used}, nil, interrupt, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := d.In(1)
	var group sync.WaitGroup
	for range 200 {
		r.Add(b)
		c := new(virtio.Chain)
		if !q.Pop(c) {
			t.Fatal("nothing to pop")
		}
		group.Go(func() {
			q.Push(c, 1)
			q.Notify()
		})
	}
	group.Wait()
	seen := map[uint16]bool{}
	for range 200 {
		head, _, ok := r.Take()
		if !ok || seen[head] {
			t.Fatalf("chain %d, %v: missing or doubled", head, ok)
		}
		seen[head] = true
	}
}

// The cost of a request: from the driver's doorbell, by way of the device's
// worker, back to the driver's interrupt.
func BenchmarkRoundTrip(b *testing.B) {
	d := virtiotest.Start(b, &echo{}, virtio.FeatureEventIdx|virtio.FeatureIndirect)
	out, in := d.Out(make([]byte, 16)), d.In(16)
	r := d.Rings[0]
	doorbell := le.AppendUint32(nil, 0)
	b.ReportAllocs()
	for b.Loop() {
		r.WantInterrupt(true)
		r.Add(out, in)
		d.Regs.Write(0x50, doorbell)
		for {
			if _, _, ok := r.Take(); ok {
				break
			}
			d.Interrupt.Wait()
		}
	}
}

// The cost of the queue alone: a chain taken and given back.
func BenchmarkQueue(b *testing.B) {
	d := virtiotest.Start(b, &echo{inactive: true}, 0)
	r := d.Rings[0]
	q, err := virtio.NewQueue(d.Memory, virtio.QueueConfig{Size: uint16(r.Size), Desc: r.Desc, Avail: r.Avail, Used: r.Used}, nil, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	out, in := d.Out(make([]byte, 16)), d.In(16)
	r.WantInterrupt(false)
	var c virtio.Chain
	b.ReportAllocs()
	for b.Loop() {
		r.Add(out, in)
		if !q.Pop(&c) {
			b.Fatal("nothing to pop")
		}
		q.Push(&c, 16)
		q.Notify()
		r.Take()
	}
}
