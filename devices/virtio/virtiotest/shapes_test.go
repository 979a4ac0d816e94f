package virtiotest_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"vmm/devices/virtio/virtiotest"
)

// shape is something that a driver can put into a queue, but must not.
type shape struct {
	name string
	// place puts the rings somewhere, before the queue is set up; nil for where
	// they are.
	place func(d *virtiotest.Driver, r *virtiotest.Ring)
	// fill makes a chain available; nil for none.
	fill func(d *virtiotest.Driver, r *virtiotest.Ring)
}

// noRAM is where a device on the MMIO transport has its registers.
const noRAM = 0xc000_1000

var shapes = []shape{
	{"a buffer of 4 GiB - 1", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, 0, 1<<32-1, virtiotest.Write, 0)
		r.Offer(0)
	}},
	{"an empty buffer", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, d.In(1).Addr, 0, virtiotest.Write, 0)
		r.Offer(0)
	}},
	{"an empty readable buffer", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, d.In(1).Addr, 0, 0, 0)
		r.Offer(0)
	}},
	{"nearly 4 GiB, the same 32 MiB again and again", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		same(d, r, 32<<20, virtiotest.Write)
	}},
	{"nearly 4 GiB to read", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) { same(d, r, 32<<20, 0) }},
	{"a chain as long as the queue", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) { same(d, r, 16, 0) }},
	{"a chain that ends where it begins", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		for i := range uint16(r.Size) {
			r.SetDesc(i, d.In(1).Addr, 1, virtiotest.Next, (i+1)%uint16(r.Size))
		}
		r.Offer(0)
	}},
	{"an indirect table of 2^15 buffers", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) { indirect(d, r, 1<<15, virtiotest.Write) }},
	{"an indirect table in an indirect table", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) { indirect(d, r, 4, virtiotest.Indirect) }},
	{"an indirect table that is the descriptor table", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, r.Desc, uint32(16*r.Size), virtiotest.Indirect, 0)
		r.Offer(0)
	}},
	{"a buffer that is the rings", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, r.Desc, uint32(r.Used+8-r.Desc), virtiotest.Write, 0)
		r.Offer(0)
	}},
	{"a buffer across the end of RAM", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, virtiotest.MemorySize-8, 16, virtiotest.Write, 0)
		r.Offer(0)
	}},
	{"a buffer where a device is", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, noRAM, 16, 0, 0)
		r.Offer(0)
	}},
	{"the same chain in every place", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) {
		r.SetDesc(0, d.In(64).Addr, 64, virtiotest.Write, 0)
		for range r.Size {
			r.Offer(0)
		}
	}},
	{"more chains than there is room for", nil, func(d *virtiotest.Driver, r *virtiotest.Ring) { r.SetAvail(uint16(r.Size + 1)) }},
	{"used over available ring", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Used = r.Avail &^ 3 }, one},
	{"used over descriptors", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Used = r.Desc }, one},
	{"all three in one place", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Used, r.Avail = r.Desc, r.Desc }, one},
	{"used ring at the end of RAM", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Used = virtiotest.MemorySize - 8 }, nil},
	{"available ring where a device is", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Avail = noRAM }, nil},
	{"descriptors past all addresses", func(d *virtiotest.Driver, r *virtiotest.Ring) { r.Desc = ^uint64(15) }, nil},
}

// one is a chain as it should be.
func one(d *virtiotest.Driver, r *virtiotest.Ring) {
	r.SetDesc(0, d.In(64).Addr, 64, virtiotest.Write, 0)
	r.Offer(0)
}

// same makes a chain available that is as long as the queue, or as 4 GiB, of one
// buffer again and again.
func same(_ *virtiotest.Driver, r *virtiotest.Ring, size uint32, flags uint16) {
	n := min(r.Size, 1<<32/int(size)-1)
	for i := range n {
		next, f := uint16(0), flags
		if i < n-1 {
			next, f = uint16(i+1), flags|virtiotest.Next
		}
		r.SetDesc(uint16(i), 1<<20, size, f, next)
	}
	r.Offer(0)
}

// indirect makes an indirect table of n buffers with the given flags available.
func indirect(d *virtiotest.Driver, r *virtiotest.Ring, n int, flags uint16) {
	table := d.In(16 * n)
	for i := range n {
		f := flags
		if flags&virtiotest.Indirect == 0 && i < n-1 {
			f |= virtiotest.Next
		}
		virtiotest.PutDesc(table.Data[16*i:], table.Addr, 16, f, uint16(i+1))
	}
	r.SetDesc(0, table.Addr, uint32(16*n), virtiotest.Indirect, 0)
	r.Offer(0)
}

// Bounds on what one queue with a shape in it costs the host.
const (
	mostTime   = 5 * time.Second // on a machine that has other work
	mostMemory = 32 << 20        // bytes allocated, garbage too
)

// Every shape in every queue of every device, those for control and statistics too:
// the device gives the chain back, keeps it, or asks for a reset, in a bounded time
// and with bounded memory; and works once it has been reset.
func TestShapesInEveryQueue(t *testing.T) {
	onEach(t, func(t *testing.T, s subject, start func() *virtiotest.Driver) {
		d := start()
		var longest time.Duration
		var largest uint64
		mark := d.Mark()
		d.SetUp(d.Offered())
		queues := len(d.Rings)
		for queue := range queues {
			for _, shape := range shapes {
				what := fmt.Sprintf("queue %d, %s", queue, shape.name)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				begun := time.Now()

				d.Reset()
				d.Free(mark)
				misuse(d, queue, shape)
				d.Reset()

				took := time.Since(begun)
				runtime.ReadMemStats(&after)
				size := after.TotalAlloc - before.TotalAlloc
				if took > mostTime || size > mostMemory {
					t.Errorf("%s: took %v and %d KiB", what, took, size>>10)
				}
				longest, largest = max(longest, took), max(largest, size)
				d.Free(mark)
				d.SetUp(d.Offered())
				d.Do(s.queue, s.request(d)...)
			}
		}
		t.Logf("at the most %v and %d KiB", longest, largest>>10)
	})
}

// misuse starts a device with a shape in one of its queues, and lets it try.
func misuse(d *virtiotest.Driver, queue int, s shape) {
	features := d.Offered()
	begin := func() {
		d.SetStatus(virtiotest.StatusAcknowledge)
		d.SetStatus(virtiotest.StatusAcknowledge | virtiotest.StatusDriver)
		d.Accept(features)
		d.SetStatus(virtiotest.StatusAcknowledge | virtiotest.StatusDriver | virtiotest.StatusFeaturesOK)
	}
	begin()
	d.AddRings(features)
	d.Reset()
	begin()
	r := d.Rings[queue]
	if s.place != nil {
		s.place(d, r)
	}
	for i, r := range d.Rings {
		d.Enable(i, r)
	}
	if s.fill != nil {
		s.fill(d, r)
	}
	d.SetStatus(virtiotest.StatusAcknowledge | virtiotest.StatusDriver | virtiotest.StatusFeaturesOK | virtiotest.StatusDriverOK)
	d.Kick(queue)
	// It may well keep what it was given: there is nothing to receive.
	for range 5 {
		if _, _, ok := r.Take(); ok || d.Status()&virtiotest.StatusNeedsReset != 0 {
			return
		}
		time.Sleep(200 * time.Microsecond)
	}
}
