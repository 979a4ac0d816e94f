package blk_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/devices/virtio/blk"
	"vmm/devices/virtio/virtiotest"
	"vmm/disk"
	"vmm/memory"
)

// repeat is a chain's worth of the same memory, n times.
func repeat(b virtiotest.Buffer, n int) (all []virtiotest.Buffer) {
	for range n {
		all = append(all, b)
	}
	return all
}

// What is beyond what the device says of itself is an error, and what is not works,
// however large it is in all: a chain may name the same memory again and again.
func TestAdvertisedLimits(t *testing.T) {
	image := &stuck{gate: make(chan struct{})}
	close(image.gate)
	d := start(t, blk.Config{Image: image})
	sizeMax, segMax := le.Uint32(d.Config(8, 4)), le.Uint32(d.Config(12, 4))
	if d.Offered()&(1<<1|1<<2) != 1<<1|1<<2 || sizeMax == 0 || segMax == 0 || uint64(sizeMax)*uint64(segMax) >= 1<<32 {
		t.Fatalf("features %#x, %d segments of %d bytes", d.Offered(), segMax, sizeMax)
	}
	whole, more := d.In(int(sizeMax)), d.In(int(sizeMax)+512)
	for _, tt := range []struct {
		name string
		data []virtiotest.Buffer
		want byte
	}{
		{"a segment of the largest size", repeat(whole, 1), ok},
		{"a larger segment", repeat(more, 1), ioErr},
		{"a larger segment after others", append(repeat(whole, 2), more), ioErr},
		{"a gibibyte, nearly", repeat(whole, 250), ok},
	} {
		status, n := do(d, in, 0, tt.data...)
		if status != tt.want {
			t.Errorf("%s: status %d; want %d", tt.name, status, tt.want)
		}
		want := uint32(1)
		if tt.want == ok {
			want += uint32(len(tt.data)) * sizeMax
		}
		if n != want {
			t.Errorf("%s: %d bytes written; want %d", tt.name, n, want)
		}
	}
}

// The device reports as written what it has written.
func TestWritten(t *testing.T) {
	d, _ := newDisk(t, blk.Config{Serial: "0123456789abcdefghij"}, allFeatures)
	for _, size := range []int{1, 8, 20, 21, 300} {
		id := d.In(size)
		for i := range id.Data {
			id.Data[i] = 0xee
		}
		n := min(size, 20)
		if status, written := do(d, getID, 0, id); status != ok || written != uint32(n)+1 || string(id.Data[:n]) != "0123456789abcdefghij"[:n] {
			t.Errorf("serial number into %d bytes: status %d, %d bytes, %q", size, status, written, id.Data[:n])
		}
		if rest := id.Data[n:]; !bytes.Equal(rest, bytes.Repeat([]byte{0xee}, len(rest))) {
			t.Errorf("serial number into %d bytes: what is behind it has changed", size)
		}
	}
	image := &slow{gate: make(chan struct{}), calls: make(chan struct{}, 100)}
	image.errno.Store(uint32(unix.EIO))
	close(image.gate)
	d = start(t, blk.Config{Image: image})
	if status, written := do(d, in, 0, d.In(4096)); status != ioErr || written != 1 {
		t.Errorf("a read that fails: status %d, %d bytes", status, written)
	}
}

// stuck is an image whose storage answers to nothing until its gate opens.
type stuck struct {
	gate  chan struct{}
	calls atomic.Int64
}

func (s *stuck) Size() int64 { return 1 << 40 }
func (s *stuck) move(v *memory.Vector, wait bool) error {
	if v != nil && v.Len() > 1<<20 {
		panic("more than a mebibyte at once")
	}
	if !wait {
		return unix.EAGAIN
	}
	s.calls.Add(1)
	<-s.gate
	return nil
}
func (s *stuck) Read(v *memory.Vector, _ int64, wait bool) error { return s.move(v, wait) }
func (s *stuck) Write(v *memory.Vector, _ int64, _, wait bool) error {
	return s.move(v, wait)
}
func (s *stuck) Flush() error                  { return s.move(nil, true) }
func (s *stuck) Discard(int64, int64) error    { return s.move(nil, true) }
func (s *stuck) Zero(_, n int64, _ bool) error { return s.move(nil, true) }

// flood makes as many requests as the rings hold, each of the longest kind, by
// indirect tables that name the same memory again and again.
func flood(d *virtiotest.Driver) {
	const segments = 510
	hdr, status := d.Out(header(in, 0)), d.In(1)
	data := d.In(1 << 20)
	table := d.In(16 * (segments + 2))
	for i := range uint16(segments + 2) {
		b, flags := data, uint16(virtiotest.Next|virtiotest.Write)
		switch i {
		case 0:
			b, flags = hdr, virtiotest.Next
		case segments + 1:
			b, flags = status, virtiotest.Write
		}
		virtiotest.PutDesc(table.Data[16*i:], b.Addr, uint32(len(b.Data)), flags, i+1)
	}
	for i, r := range d.Rings {
		for head := range uint16(r.Size) {
			r.SetDesc(head, table.Addr, uint32(len(table.Data)), virtiotest.Indirect, 0)
			r.Offer(head)
		}
		d.Kick(i)
	}
}

// heap is what Go's heap holds.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A disk whose storage does not answer holds no more of the host's memory than is
// said of it, whatever its driver asks for; it serves all of that in the end, and a
// reset waits for no more than a piece of each request.
func TestFlood(t *testing.T) {
	for name, queues := range map[string]int{"one queue": 1, "64 queues": 64} {
		t.Run(name, func(t *testing.T) {
			image := &stuck{gate: make(chan struct{})}
			d := start(t, blk.Config{Image: image, Queues: queues})
			before := heap()
			flood(d)
			for settled, calls := 0, int64(-1); settled < 20; time.Sleep(5 * time.Millisecond) {
				if now := image.calls.Load(); now != calls {
					settled, calls = 0, now
				}
				settled++
			}
			// Of 64 queues: 64 times 1.8 thousand pieces of 40 bytes, and 256 requests.
			grown := heap() - before
			t.Logf("%d KiB are held", grown>>10)
			if grown > 12<<20 {
				t.Error("that is too much")
			}
			done := make(chan struct{})
			go func() {
				d.Reset()
				close(done)
			}()
			// One call after the other comes back: those under way, and few more.
			answers := 0
			for running := true; running; {
				select {
				case image.gate <- struct{}{}:
					answers++
					time.Sleep(time.Millisecond)
				case <-done:
					running = false
				case <-time.After(10 * time.Second):
					t.Fatal("the reset does not end")
				}
			}
			if answers > 2*64 {
				t.Errorf("the reset waited for %d answers of the storage", answers)
			}
		})
	}
}

// However crowded it is, each request is answered, and once.
func TestCrowded(t *testing.T) {
	image := &stuck{gate: make(chan struct{})}
	d := start(t, blk.Config{Image: image})
	flood(d)
	close(image.gate)
	seen := map[uint16]int{}
	for range d.Rings[0].Size {
		head, _ := d.Wait(0)
		seen[head]++
	}
	if len(seen) != d.Rings[0].Size {
		t.Errorf("%d of %d requests were answered", len(seen), d.Rings[0].Size)
	}
}

// What a disk keeps from requests that are over is bounded, too.
func TestKept(t *testing.T) {
	image := &stuck{gate: make(chan struct{})}
	close(image.gate)
	d := start(t, blk.Config{Image: image, Queues: 64})
	before := heap()
	for range 3 {
		flood(d)
		for i, r := range d.Rings {
			for range r.Size {
				d.Wait(i)
			}
		}
	}
	grown := heap() - before
	t.Logf("%d KiB are kept", grown>>10)
	if grown > 12<<20 {
		t.Error("that is too much")
	}
}

// A limit costs no time that grows with the request.
func TestLimitOfLargeRequest(t *testing.T) {
	d := start(t, blk.Config{Image: &stuck{}, Bandwidth: 1})
	d.Rings[0].Add(append(append([]virtiotest.Buffer{d.Out(header(in, 0))}, repeat(d.In(4<<20), 250)...), d.In(1))...)
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	d.Kick(0)
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	d.Reset()
	took := time.Since(begin)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	if cpu := time.Duration(unix.TimevalToNsec(after.Utime) - unix.TimevalToNsec(before.Utime)); cpu > 200*time.Millisecond || took > time.Second {
		t.Errorf("a gibibyte at a byte a second: %v of processor time, reset after %v", cpu, took)
	}
}

// A driver that offers requests again which the disk has not given back breaks its
// queue, and nothing else: no request is lost or done twice, and the next driver
// finds the device in order.
func TestOfferedAgain(t *testing.T) {
	path := filepath.Join(".", "testdata-again") // tmpfs has no O_DIRECT everywhere
	if err := os.WriteFile(path, bytes.Repeat([]byte{0x55}, diskSize), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	d := openDisk(t, path, true, blk.Config{}, allFeatures)
	addr := d.Alloc(4096, 4096)
	mem, err := d.Memory.Slice(addr, 4096)
	if err != nil {
		t.Fatal(err)
	}
	page := virtiotest.Buffer{Addr: addr, Data: mem, Write: true}
	for range 50 {
		head := d.Rings[0].Add(d.Out(header(in, 0)), page, d.In(1))
		for range 300 {
			d.Rings[0].Offer(head)
		}
		d.Kick(0)
		for range 300 {
			d.Rings[0].Offer(head)
		}
		d.Kick(0)
		begin := time.Now()
		d.Reset()
		if took := time.Since(begin); took > 5*time.Second {
			t.Fatalf("a reset took %v", took)
		}
		d.SetUp(allFeatures)
		clear(mem)
		if status, n := do(d, in, 0, page); status != ok || n != 4097 || strings.Trim(string(mem), "\x55") != "" {
			t.Fatalf("the next driver's read: status %d, %d bytes", status, n)
		}
	}
}

// A guest that makes its disk look like another format gets an error, whichever way
// the write takes, and the user a line; with the format named, it is the guest's
// affair.
func TestMagic(t *testing.T) {
	for name, tt := range map[string]struct {
		direct   bool
		format   disk.Format
		features virtio.Features
		want     byte
	}{
		"cached":          {false, "", allFeatures, ioErr},
		"written through": {false, "", 0, ioErr},
		"direct":          {true, "", allFeatures, ioErr},
		"named":           {false, disk.FormatRaw, allFeatures, ok},
		"named, direct":   {true, disk.FormatRaw, allFeatures, ok},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(".", "testdata-magic") // tmpfs has no O_DIRECT everywhere
			if err := os.WriteFile(path, make([]byte, diskSize), 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			image, err := disk.Open(disk.Config{Path: path, Direct: tt.direct, Format: tt.format})
			if err != nil {
				t.Fatal(err)
			}
			device, err := blk.New(blk.Config{Image: image, Close: image.Close, Name: "test.img"})
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			d := virtiotest.NewLogged(t, device, slog.New(slog.NewTextHandler(&log, nil)))
			d.SetUp(tt.features)
			addr := d.Alloc(4096, 4096)
			mem, err := d.Memory.Slice(addr, 4096)
			if err != nil {
				t.Fatal(err)
			}
			copy(mem, "QFI\xfb\x00\x00\x00\x03")
			for range 3 {
				if status, _ := do(d, out, 0, virtiotest.Buffer{Addr: addr, Data: mem}); status != tt.want {
					t.Errorf("status %d; want %d", status, tt.want)
				}
			}
			if status, _ := do(d, out, 8, virtiotest.Buffer{Addr: addr, Data: mem}); status != ok {
				t.Errorf("elsewhere: status %d", status)
			}
			d.Reset()
			want := 0
			if tt.want == ioErr {
				want = 1
			}
			if n := strings.Count(log.String(), "format=raw"); n != want {
				t.Errorf("the user hears:\n%s", &log)
			}
		})
	}
}
