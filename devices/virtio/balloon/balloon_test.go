package balloon_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/devices/virtio"
	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/virtiotest"
)

var le = binary.LittleEndian

const (
	all       = ^virtio.Features(0)
	stats     = 1 << 1
	reporting = 1 << 5
)

func list(pages ...uint32) []byte {
	var b []byte
	for _, p := range pages {
		b = le.AppendUint32(b, p)
	}
	return b
}

// fill makes n pages of guest memory that are not zero.
func fill(t *testing.T, d *virtiotest.Driver, n int) (first uint32, data []byte) {
	t.Helper()
	addr := d.Alloc(uint64(n)*balloon.PageSize, balloon.PageSize)
	data, err := d.Memory.Slice(addr, uint64(n)*balloon.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] = 1
	}
	return uint32(addr / balloon.PageSize), data
}

// gone are the pages that the host has back: they read as zero.
func gone(data []byte) []int {
	var pages []int
	for i := 0; i < len(data); i += balloon.PageSize {
		if data[i] == 0 && data[i+balloon.PageSize-1] == 0 {
			pages = append(pages, i/balloon.PageSize)
		}
	}
	return pages
}

func TestInflate(t *testing.T) {
	dev := balloon.New(balloon.Config{Size: 1 << 20})
	d := virtiotest.Start(t, dev, all)
	if got := le.Uint32(d.Config(0, 4)); got != 256 {
		t.Errorf("target %d pages; want 256", got)
	}
	p, data := fill(t, d, 8)
	// In no order, twice, in pieces, and where there is no RAM.
	numbers := list(p+5, p+1, p+4, 0xffff_ffff, p+1, virtiotest.MemorySize/balloon.PageSize)
	d.Do(0, d.Out(numbers[:6]), d.Out(numbers[6:]), d.Out([]byte{1, 2}))
	if diff := cmp.Diff([]int{1, 4, 5}, gone(data)); diff != "" {
		t.Error(diff)
	}
	d.SetConfig(4, list(3))
	if target, actual := dev.Size(); target != 1<<20 || actual != 3*balloon.PageSize {
		t.Errorf("target %d, actual %d", target, actual)
	}
	d.Do(1, d.Out(list(p+1, p+4)))
	dev.SetSize(2 << 20)
	if !d.WaitInterrupt(20*time.Second) || le.Uint32(d.Config(0, 4)) != 512 {
		t.Error("the driver is not told of the new size")
	}
	d.Reset()
	if _, actual := dev.Size(); actual != 0 {
		t.Errorf("%d bytes in the balloon after a reset", actual)
	}
}

func TestReporting(t *testing.T) {
	// Without statistics the queue is the third. virtio §5.5.2.
	for name, tt := range map[string]struct {
		features virtio.Features
		queue    int
	}{"alone": {reporting, 2}, "with statistics": {all, 3}} {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.Start(t, balloon.New(balloon.Config{Reporting: true}), tt.features)
			p, data := fill(t, d, 8)
			at := func(page, n int) virtiotest.Buffer {
				addr := uint64(p+uint32(page)) * balloon.PageSize
				return virtiotest.Buffer{Addr: addr, Data: data[:n], Write: true}
			}
			d.Do(tt.queue, at(1, 2*balloon.PageSize), at(6, balloon.PageSize+100))
			if diff := cmp.Diff([]int{1, 2, 6}, gone(data)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if d := virtiotest.New(t, balloon.New(balloon.Config{})); d.Offered()&reporting != 0 {
		t.Error("offered without being asked for")
	}
}

func stat(tag uint16, v uint64) []byte { return le.AppendUint64(le.AppendUint16(nil, tag), v) }

func TestStats(t *testing.T) {
	dev := balloon.New(balloon.Config{})
	if s := dev.Stats(time.Millisecond); s != nil {
		t.Errorf("%v before there is a driver", s)
	}
	d := virtiotest.Start(t, dev, all)
	b := d.Out(append(append(stat(4, 111), stat(5, 222)...), stat(999, 1)...))
	d.Rings[2].Add(b)
	d.Kick(2)
	// The driver fills it anew when it gets it back.
	go func() {
		for i := range 3 {
			d.Wait(2)
			copy(b.Data, stat(4, uint64(1000+i)))
			d.Rings[2].Add(b)
			d.Kick(2)
		}
	}()
	for i := range 3 {
		var got balloon.Stats
		for deadline := time.Now().Add(20 * time.Second); got == nil && time.Now().Before(deadline); {
			got = dev.Stats(10 * time.Second)
		}
		if diff := cmp.Diff(balloon.Stats{"free_memory": uint64(1000 + i), "total_memory": 222}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{3, 0, 0, 1, 40, 0, 10, 0, 5, 6, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		dev := balloon.New(balloon.Config{Reporting: true})
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // somebody asks, and changes the size
			defer close(stopped)
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
					dev.Stats(time.Millisecond)
					dev.SetSize(i << 20)
				}
			}
		}()
		d := virtiotest.New(t, dev)
		d.Play(script)
		close(stop)
		<-stopped
		d.SetUp(stats)
		d.Do(1, d.Out(list(1, 2, 3)))
	})
}
