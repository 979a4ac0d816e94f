package ceiling

import (
	"log/slog"
	"runtime"
	"testing"
	"time"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// queueSelect and the like are registers of the MMIO transport. virtio §4.2.2.
const (
	queueSelect = 0x30
	queueReady  = 0x44
	queueAvail  = 0x90
	queueUsed   = 0xa0
)

// shapes are what no driver puts into a ring that means well. Each is put into ring i
// of a device that has been set up, but for the queue's addresses where start is set.
var shapes = []struct {
	name  string
	start func(d *virtiotest.Driver, i int) // before DRIVER_OK
	put   func(d *virtiotest.Driver, i int)
}{
	{name: "a buffer of 4 GiB", put: func(d *virtiotest.Driver, i int) {
		one(d, i, 0, 1<<32-1, 0)
		one(d, i, 0, 1<<32-1, virtiotest.Write)
	}},
	{name: "buffers of nothing", put: func(d *virtiotest.Driver, i int) {
		for k := range d.Rings[i].Size {
			one(d, i, 0x1000, 0, uint16(k&1)*virtiotest.Write)
		}
	}},
	{name: "no more than nothing, in a long chain", put: func(d *virtiotest.Driver, i int) { chain(d, i, 0x1000, 0, 0) }},
	{name: "all RAM, many times, to be read", put: func(d *virtiotest.Driver, i int) { chain(d, i, 0, virtiotest.MemorySize, 0) }},
	{name: "most of RAM, many times, to be written", put: func(d *virtiotest.Driver, i int) {
		chain(d, i, 32<<20, 32<<20, virtiotest.Write) // where the rings are not
	}},
	{name: "a chain that is a circle", put: func(d *virtiotest.Driver, i int) {
		r := d.Rings[i]
		for k := range r.Size {
			r.SetDesc(uint16(k), 0x1000, 1, virtiotest.Next|virtiotest.Write, uint16((k+1)%r.Size))
		}
		r.Offer(0)
	}},
	{name: "a table that is its own", put: func(d *virtiotest.Driver, i int) {
		r := d.Rings[i]
		for k := range r.Size {
			r.SetDesc(uint16(k), r.Desc, 16*uint32(r.Size), virtiotest.Indirect, 0)
		}
		r.Offer(0)
	}},
	{name: "a table of 2^28 descriptors", put: func(d *virtiotest.Driver, i int) { one(d, i, 0, 1<<32-16, virtiotest.Indirect) }},
	{name: "a table of half a descriptor", put: func(d *virtiotest.Driver, i int) { one(d, i, 0x1000, 8, virtiotest.Indirect) }},
	{name: "heads that are not there", put: func(d *virtiotest.Driver, i int) { d.Rings[i].Offer(uint16(d.Rings[i].Size)) }},
	{name: "more chains than there are", put: func(d *virtiotest.Driver, i int) { d.Rings[i].SetAvail(40000) }},
	{name: "the same chain again and again", put: func(d *virtiotest.Driver, i int) {
		d.Rings[i].SetDesc(0, 0x1000, 64, virtiotest.Write, 0)
		for range d.Rings[i].Size {
			d.Rings[i].Offer(0)
		}
	}},
	{name: "a used ring over the available ring", start: func(d *virtiotest.Driver, i int) { place(d, queueUsed, d.Rings[i].Avail&^3) }, put: fill},
	{name: "a used ring over the descriptors", start: func(d *virtiotest.Driver, i int) { place(d, queueUsed, d.Rings[i].Desc) }, put: fill},
	{name: "a used ring across the end of RAM", start: func(d *virtiotest.Driver, i int) { place(d, queueUsed, virtiotest.MemorySize-8) }, put: fill},
	{name: "an available ring outside RAM", start: func(d *virtiotest.Driver, i int) { place(d, queueAvail, 0xfee0_0000) }, put: fill},
	{name: "a used ring at the end of addresses", start: func(d *virtiotest.Driver, i int) { place(d, queueUsed, ^uint64(3)) }, put: fill},
}

// one makes a descriptor available.
func one(d *virtiotest.Driver, i int, addr uint64, n uint32, flags uint16) {
	r := d.Rings[i]
	head := r.Available() % uint16(r.Size)
	r.SetDesc(head, addr, n, flags, 0)
	r.Offer(head)
}

// chain makes a chain of the whole ring available.
func chain(d *virtiotest.Driver, i int, addr uint64, n uint32, flags uint16) {
	r := d.Rings[i]
	for k := range r.Size {
		next := uint16(virtiotest.Next)
		if k == r.Size-1 {
			next = 0
		}
		r.SetDesc(uint16(k), addr, n, flags|next, uint16(k+1))
	}
	r.Offer(0)
}

// fill makes a chain of one page available, in each place.
func fill(d *virtiotest.Driver, i int) {
	r := d.Rings[i]
	for k := range r.Size {
		r.SetDesc(uint16(k), 0x1000, 64, virtiotest.Write, 0)
		r.Offer(uint16(k))
	}
}

// place tells the device another address of the selected queue.
func place(d *virtiotest.Driver, register, addr uint64) {
	d.Set(queueReady, 0)
	d.Set(register, uint32(addr))
	d.Set(register+4, uint32(addr>>32))
	d.Set(queueReady, 1)
}

// Whatever is in a queue of any device, control, statistics and events included,
// costs little time and memory, and the device works again after a reset.
func TestShapes(t *testing.T) {
	const most = 8 << 10 // KiB, of one device
	for _, f := range everyDevice(t) {
		d := virtiotest.NewLogged(t, f.device, slog.New(slog.DiscardHandler))
		before, goroutines := held(), runtime.NumGoroutine()
		d.SetUp(^virtio.Features(0))
		for _, shape := range shapes {
			// Of many queues that are alike, the first ones and the last.
			for i := range d.Rings {
				if i > 4 && i < len(d.Rings)-1 {
					continue
				}
				reset(d)
				setUp(d, func() {
					if shape.start != nil {
						d.Set(queueSelect, uint32(i))
						shape.start(d, i)
					}
				})
				begin := time.Now()
				shape.put(d, i)
				d.Kick(i)
				time.Sleep(2 * time.Millisecond)
				if took := held() - before; took > most {
					t.Errorf("%s, queue %d, %s: %d KiB", f.name, i, shape.name, took)
				}
				reset(d)
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("%s, queue %d, %s: %v until it was reset", f.name, i, shape.name, took)
				}
			}
		}
		d.SetUp(^virtio.Features(0))
		if s := d.Status(); s&(virtiotest.StatusNeedsReset|virtiotest.StatusDriverOK) != virtiotest.StatusDriverOK {
			t.Errorf("%s: status %#x in the end", f.name, s)
		}
		reset(d)
		if n := runtime.NumGoroutine(); n > goroutines+2 {
			t.Errorf("%s: %d goroutines are left, where %d were", f.name, n, goroutines)
		}
	}
}

// setUp sets a device up, with a word before it starts. It may refuse to.
func setUp(d *virtiotest.Driver, before func()) {
	features := d.Offered() | virtio.FeatureVersion1
	d.SetStatus(virtiotest.StatusAcknowledge)
	d.SetStatus(virtiotest.StatusAcknowledge | virtiotest.StatusDriver)
	d.Accept(features)
	d.SetStatus(virtiotest.StatusAcknowledge | virtiotest.StatusDriver | virtiotest.StatusFeaturesOK)
	d.AddRings(features)
	before()
	d.SetStatus(virtiotest.StatusAcknowledge | virtiotest.StatusDriver | virtiotest.StatusFeaturesOK | virtiotest.StatusDriverOK)
}
