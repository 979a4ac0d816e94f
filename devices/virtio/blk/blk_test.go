package blk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

var le = binary.LittleEndian

const (
	in, out, flush, getID, discard, zero = 0, 1, 4, 8, 11, 13

	ok, ioErr, unsupported = 0, 1, 2
)

const diskSize = 4 << 20

// newDisk starts a disk on a file of 4 MiB.
func newDisk(t testing.TB, c blk.Config, features virtio.Features) (*virtiotest.Driver, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, diskSize), 0o600); err != nil {
		t.Fatal(err)
	}
	return openDisk(t, path, false, c, features), path
}

func openDisk(t testing.TB, path string, direct bool, c blk.Config, features virtio.Features) *virtiotest.Driver {
	t.Helper()
	image, err := disk.Open(disk.Config{Path: path, Direct: direct})
	if err != nil {
		t.Fatal(err)
	}
	c.Image, c.Close = image, image.Close
	d, err := blk.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return virtiotest.Start(t, d, features)
}

const allFeatures = ^virtio.Features(0)

func header(kind uint32, sector uint64) []byte {
	b := make([]byte, 16)
	le.PutUint32(b, kind)
	le.PutUint64(b[8:], sector)
	return b
}

// do makes a request and returns the status and the number of bytes written.
func do(d *virtiotest.Driver, kind uint32, sector uint64, data ...virtiotest.Buffer) (status byte, n uint32) {
	s := d.In(1)
	s.Data[0] = 0xee
	n = d.Do(0, append(append([]virtiotest.Buffer{d.Out(header(kind, sector))}, data...), s)...)
	return s.Data[0], n
}

func TestReadAndWrite(t *testing.T) {
	for name, features := range map[string]virtio.Features{"cached": allFeatures, "written through": 0} {
		t.Run(name, func(t *testing.T) {
			d, path := newDisk(t, blk.Config{}, features)
			data := make([]byte, 8192)
			rand.NewChaCha8([32]byte{}).Read(data)
			if status, n := do(d, out, 5, d.Out(data[:512]), d.Out(data[512:])); status != ok || n != 1 {
				t.Fatalf("write: status %d, %d bytes", status, n)
			}
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(file[5*512:5*512+8192], data) || !bytes.Equal(file[:5*512], make([]byte, 5*512)) {
				t.Error("the file holds something else")
			}
			a, b := d.In(1000), d.In(7192)
			if status, n := do(d, in, 5, a, b); status != ok || n != 8193 {
				t.Fatalf("read: status %d, %d bytes", status, n)
			}
			if !bytes.Equal(append(a.Data, b.Data...), data) {
				t.Error("something else was read")
			}
		})
	}
}

// A request may lie in memory as it likes: header, data and status in one
// buffer each way, or a byte at a time. virtio §2.7.4.
func TestFraming(t *testing.T) {
	d, _ := newDisk(t, blk.Config{}, allFeatures)
	data := bytes.Repeat([]byte("framing!"), 64)
	status := d.In(1)
	if d.Do(0, d.Out(append(header(out, 1), data...)), status); status.Data[0] != ok {
		t.Fatalf("write: status %d", status.Data[0])
	}
	var pieces []virtiotest.Buffer
	for _, b := range header(in, 1) {
		pieces = append(pieces, d.Out([]byte{b}))
	}
	reply := d.In(513)
	if n := d.Do(0, append(pieces, reply)...); n != 513 || reply.Data[512] != ok || !bytes.Equal(reply.Data[:512], data) {
		t.Errorf("read: %d bytes, status %d", n, reply.Data[512])
	}
}

func TestBadRequests(t *testing.T) {
	d, path := newDisk(t, blk.Config{}, allFeatures)
	const sectors = diskSize / 512
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	span := func(sector uint64, n, flags uint32) virtiotest.Buffer {
		b := le.AppendUint64(nil, sector)
		return d.Out(le.AppendUint32(le.AppendUint32(b, n), flags))
	}
	for _, tt := range []struct {
		name   string
		kind   uint32
		sector uint64
		data   []virtiotest.Buffer
		want   byte
	}{
		{"read past the end", in, sectors, []virtiotest.Buffer{d.In(512)}, ioErr},
		{"read across the end", in, sectors - 1, []virtiotest.Buffer{d.In(1024)}, ioErr},
		{"read far past the end", in, 1 << 63, []virtiotest.Buffer{d.In(512)}, ioErr},
		{"read where the offset wraps", in, 1<<55 - 1, []virtiotest.Buffer{d.In(1024)}, ioErr},
		{"read of half a sector", in, 0, []virtiotest.Buffer{d.In(256)}, ioErr},
		{"write past the end", out, sectors, []virtiotest.Buffer{d.Out(make([]byte, 512))}, ioErr},
		{"write of half a sector", out, 0, []virtiotest.Buffer{d.Out(make([]byte, 700))}, ioErr},
		{"unknown request", 99, 0, nil, unsupported},
		{"SCSI command", 2, 0, nil, unsupported},
		{"discard past the end", discard, 0, []virtiotest.Buffer{span(sectors, 1, 0)}, ioErr},
		{"discard across the end", discard, 0, []virtiotest.Buffer{span(sectors-1, 2, 0)}, ioErr},
		{"discard that wraps", discard, 0, []virtiotest.Buffer{span(^uint64(0), 2, 0)}, ioErr},
		{"discard of too much", discard, 0, []virtiotest.Buffer{span(0, ^uint32(0), 0)}, ioErr},
		{"discard with a flag", discard, 0, []virtiotest.Buffer{span(0, 1, 1)}, unsupported},
		{"discard of half a range", discard, 0, []virtiotest.Buffer{d.Out(make([]byte, 24))}, ioErr},
		{"too many ranges", discard, 0, []virtiotest.Buffer{d.Out(make([]byte, 65*16))}, ioErr},
		{"zeroing with an unknown flag", zero, 0, []virtiotest.Buffer{span(0, 1, 2)}, unsupported},
	} {
		if status, _ := do(d, tt.kind, tt.sector, tt.data...); status != tt.want {
			t.Errorf("%s: status %d; want %d", tt.name, status, tt.want)
		}
	}
	// Without a place for the status, or a whole header, there is no answer.
	if n := d.Do(0, d.Out(header(flush, 0))); n != 0 {
		t.Errorf("no status: %d bytes", n)
	}
	s := d.In(1)
	if d.Do(0, d.Out(make([]byte, 15)), s); s.Data[0] != ioErr {
		t.Errorf("half a header: status %d", s.Data[0])
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Error("a refused request has changed the disk")
	}
}

func TestReadOnly(t *testing.T) {
	d, path := newDisk(t, blk.Config{ReadOnly: true}, allFeatures)
	if d.Offered()&(1<<5) == 0 || d.Offered()&(1<<13|1<<14) != 0 {
		t.Errorf("offers %#x", d.Offered())
	}
	for _, kind := range []uint32{out, discard, zero} {
		if status, _ := do(d, kind, 0, d.Out(bytes.Repeat([]byte{1}, 512))); status != ioErr {
			t.Errorf("request %d: status %d", kind, status)
		}
	}
	if status, _ := do(d, flush, 0); status != ok {
		t.Errorf("flush: status %d", status)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, make([]byte, diskSize)) {
		t.Error("the disk has changed")
	}
}

func TestConfigSpace(t *testing.T) {
	d, _ := newDisk(t, blk.Config{Queues: 4, Serial: "vmm-0001"}, allFeatures)
	if sectors := le.Uint64(d.Config(0, 8)); sectors != diskSize/512 {
		t.Errorf("%d sectors", sectors)
	}
	if queues := le.Uint16(d.Config(34, 2)); queues != 4 || len(d.Rings) != 4 {
		t.Errorf("%d queues; %d rings", queues, len(d.Rings))
	}
	id := d.In(20)
	if status, n := do(d, getID, 0, id); status != ok || n != 21 || string(bytes.TrimRight(id.Data, "\x00")) != "vmm-0001" {
		t.Errorf("serial number: status %d, %q", status, id.Data)
	}
	for _, c := range []blk.Config{{Queues: 65}, {Serial: strings.Repeat("x", 21)}} {
		if _, err := blk.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// Discard and zeroing give storage back to the host's file system.
func TestDiscard(t *testing.T) {
	d, path := newDisk(t, blk.Config{}, allFeatures)
	full := d.Out(bytes.Repeat([]byte{0xaa}, 2<<20))
	for _, kind := range []uint32{discard, zero} {
		if status, _ := do(d, out, 0, full); status != ok {
			t.Fatalf("write: status %d", status)
		}
		if status, _ := do(d, flush, 0); status != ok {
			t.Fatalf("flush: status %d", status)
		}
		before := blocks(t, path)
		b := le.AppendUint32(le.AppendUint32(le.AppendUint64(nil, 8), 2048), kind/zero) // unmap, to zero
		if status, _ := do(d, kind, 0, d.Out(b)); status != ok {
			t.Fatalf("request %d: status %d", kind, status)
		}
		if freed := before - blocks(t, path); freed < 900<<10 {
			t.Errorf("request %d freed %d bytes", kind, freed)
		}
		got := d.In(2048 * 512)
		if do(d, in, 8, got); !bytes.Equal(got.Data, make([]byte, len(got.Data))) {
			t.Errorf("request %d: the range is not zero", kind)
		}
	}
}

func blocks(t *testing.T, path string) int64 {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}

// Many requests at once on several queues: each is answered, and what was
// written is what is read.
func TestManyInFlight(t *testing.T) {
	d, path := newDisk(t, blk.Config{Queues: 4}, allFeatures)
	var group sync.WaitGroup
	type job struct{ hdr, data, status virtiotest.Buffer }
	for i, r := range d.Rings {
		jobs := map[uint16]job{}
		// All memory first: Alloc is not for concurrent use.
		var all []job
		for k := range 60 {
			sector := uint64(i*60+k) * 8
			data := d.Out(bytes.Repeat([]byte{byte(i*60 + k)}, 4096))
			all = append(all, job{d.Out(header(out, sector)), data, d.In(1)})
		}
		group.Go(func() {
			for _, j := range all {
				jobs[r.Add(j.hdr, j.data, j.status)] = j
			}
			d.Kick(i)
			for deadline := time.Now().Add(20 * time.Second); len(jobs) > 0; {
				head, _, taken := r.Take()
				if !taken {
					if time.Now().After(deadline) {
						t.Errorf("queue %d: %d requests were not answered", i, len(jobs))
						return
					}
					time.Sleep(time.Millisecond)
					continue
				}
				if s := jobs[head].status.Data[0]; s != ok {
					t.Errorf("status %d", s)
				}
				delete(jobs, head)
			}
		})
	}
	group.Wait()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for k := range 240 {
		if want := bytes.Repeat([]byte{byte(k)}, 4096); !bytes.Equal(file[k*4096:(k+1)*4096], want) {
			t.Errorf("block %d is wrong", k)
		}
	}
}

// slow is an image whose storage answers when it is told to.
type slow struct {
	gate  chan struct{}
	calls chan struct{}
	errno atomic.Uint32 // what it answers; 0 for success
}

func (s *slow) answer() error {
	if e := s.errno.Load(); e != 0 {
		return unix.Errno(e)
	}
	return nil
}

func (s *slow) Size() int64 { return diskSize }
func (s *slow) Read(_ *memory.Vector, _ int64, wait bool) error {
	if !wait {
		return unix.EAGAIN
	}
	s.calls <- struct{}{}
	<-s.gate
	return s.answer()
}
func (s *slow) Write(*memory.Vector, int64, bool, bool) error { return s.answer() }
func (s *slow) Flush() error                                  { return s.answer() }
func (s *slow) Discard(int64, int64) error                    { return unix.EOPNOTSUPP }
func (s *slow) Zero(int64, int64, bool) error                 { return s.answer() }

// A request that waits for the storage holds up no other one, and a reset waits
// for it.
func TestSlowStorage(t *testing.T) {
	image := &slow{gate: make(chan struct{}), calls: make(chan struct{}, 100)}
	d := start(t, blk.Config{Image: image})
	statuses := make([]virtiotest.Buffer, 32)
	for i := range statuses {
		statuses[i] = d.In(1)
		statuses[i].Data[0] = 0xee
		d.Rings[0].Add(d.Out(header(in, 0)), d.In(512), statuses[i])
	}
	d.Kick(0)
	for range statuses {
		<-image.calls // all of them at the same time
	}
	if status, _ := doAmong(d, out, d.Out(make([]byte, 512))); status != ok {
		t.Errorf("a write beside 32 slow reads: status %d", status)
	}
	reset := make(chan struct{})
	go func() {
		d.Reset()
		close(reset)
	}()
	select {
	case <-reset:
		t.Error("the reset does not wait for requests under way")
	case <-time.After(20 * time.Millisecond):
	}
	close(image.gate)
	<-reset
	for i := range statuses {
		if s := statuses[i].Data[0]; s != ok {
			t.Errorf("request %d: status %d", i, s)
		}
	}
}

func start(t testing.TB, c blk.Config) *virtiotest.Driver {
	device, err := blk.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return virtiotest.Start(t, device, allFeatures)
}

// doAmong makes a request while others are under way.
func doAmong(d *virtiotest.Driver, kind uint32, data ...virtiotest.Buffer) (status byte, n uint32) {
	s := d.In(1)
	head := d.Rings[0].Add(append(append([]virtiotest.Buffer{d.Out(header(kind, 0))}, data...), s)...)
	d.Kick(0)
	for {
		if h, n := d.Wait(0); h == head {
			return s.Data[0], n
		}
	}
}

// Errors of the host are I/O errors of the guest; the user hears of each kind
// once.
func TestHostErrors(t *testing.T) {
	image := &slow{}
	image.errno.Store(uint32(unix.ENOSPC))
	var log bytes.Buffer
	device, err := blk.New(blk.Config{Image: image, Name: "test.img"})
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.NewLogged(t, device, slog.New(slog.NewTextHandler(&log, nil)))
	d.SetUp(allFeatures)
	for range 5 {
		if status, _ := do(d, out, 0, d.Out(make([]byte, 512))); status != ioErr {
			t.Errorf("status %d", status)
		}
	}
	if status, _ := do(d, discard, 0, d.Out(le.AppendUint64(le.AppendUint64(nil, 0), 8))); status != unsupported {
		t.Errorf("discard: status %d", status)
	}
	image.errno.Store(uint32(unix.EIO))
	if status, _ := do(d, flush, 0); status != ioErr {
		t.Errorf("flush: status %d", status)
	}
	d.Reset()
	if n := strings.Count(log.String(), "test.img"); n != 2 || !strings.Contains(log.String(), "no space left") {
		t.Errorf("the user hears:\n%s", &log)
	}
}

// The limits hold, and a reset does not wait for them.
func TestLimits(t *testing.T) {
	d, _ := newDisk(t, blk.Config{IOPS: 100}, allFeatures)
	begin := time.Now()
	for range 30 {
		do(d, in, 0, d.In(512))
	}
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("30 requests at 100 a second took %v", took)
	}
	d, _ = newDisk(t, blk.Config{Bandwidth: 1 << 20}, allFeatures)
	d.Rings[0].Add(d.Out(header(in, 0)), d.In(4<<20), d.In(1))
	d.Kick(0)
	time.Sleep(10 * time.Millisecond)
	begin = time.Now()
	d.Reset()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a reset took %v", took)
	}
}

func TestContents(t *testing.T) {
	d, path := newDisk(t, blk.Config{}, allFeatures)
	random := rand.New(rand.NewPCG(1, 2))
	model := make([]byte, diskSize)
	buf := d.Alloc(64<<10, 4096)
	memory, err := d.Memory.Slice(buf, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		n := 512 * (1 + random.IntN(64))
		sector := random.IntN((diskSize - n) / 512)
		b := virtiotest.Buffer{Addr: buf, Data: memory[:n]}
		if random.IntN(2) == 0 {
			for i := range b.Data {
				b.Data[i] = byte(random.Uint32())
			}
			copy(model[sector*512:], b.Data)
			do(d, out, uint64(sector), b)
		} else {
			b.Write = true
			do(d, in, uint64(sector), b)
			if !bytes.Equal(b.Data, model[sector*512:][:n]) {
				t.Fatalf("sector %d is wrong", sector)
			}
		}
	}
	file, err := os.ReadFile(path)
	if err != nil || sha256.Sum256(file) != sha256.Sum256(model) {
		t.Error("the file is wrong in the end")
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{7, 0, 0, 63, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 1, 1, 16, 0, 0, 0, 9, 200, 0, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		image, err := disk.Open(disk.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		device, err := blk.New(blk.Config{Image: image, Close: image.Close, Queues: 2})
		if err != nil {
			t.Fatal(err)
		}
		d := virtiotest.New(t, device)
		d.Play(script)
		d.SetUp(allFeatures)
		if status, _ := do(d, out, 0, d.Out(make([]byte, 512))); status != ok {
			t.Errorf("status %d", status)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != 64<<10 {
			t.Errorf("the image has %d bytes", info.Size())
		}
	})
}

// A disk past the page cache serves many requests at once, also when it is reset
// in between: then it forgets them, and serves those of the next driver.
func TestDirect(t *testing.T) {
	path := filepath.Join(".", "testdata-direct") // tmpfs has no O_DIRECT everywhere
	if err := os.WriteFile(path, make([]byte, diskSize), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	d := openDisk(t, path, true, blk.Config{}, allFeatures)
	const pieces, size = 16, 8192
	want := make([]byte, pieces*size)
	rand.NewChaCha8([32]byte{1}).Read(want)
	page := func(data []byte, write bool) virtiotest.Buffer {
		addr := d.Alloc(size, 4096)
		mem, err := d.Memory.Slice(addr, size)
		if err != nil {
			t.Fatal(err)
		}
		copy(mem, data)
		return virtiotest.Buffer{Addr: addr, Data: mem, Write: write}
	}
	run := func(kind uint32) (got []byte) {
		r := d.Rings[0]
		status := d.In(pieces)
		var buffers []virtiotest.Buffer
		for i := range pieces {
			part := virtiotest.Buffer{Addr: status.Addr + uint64(i), Data: status.Data[i : i+1], Write: true}
			buffers = append(buffers, page(want[i*size:(i+1)*size], kind == in))
			if kind == in {
				clear(buffers[i].Data)
			}
			r.Add(d.Out(header(kind, uint64(i*size/512))), buffers[i], part)
		}
		r.WantInterrupt(true)
		d.Kick(0)
		for taken := 0; taken < pieces; {
			r.WantInterrupt(true)
			if _, _, ok := r.Take(); ok {
				taken++
				continue
			}
			d.Interrupt.Wait()
		}
		for i, b := range buffers {
			if status.Data[i] != ok {
				t.Errorf("request %d: status %d", i, status.Data[i])
			}
			got = append(got, b.Data...)
		}
		return got
	}
	for range 20 {
		run(out)
		if !bytes.Equal(run(in), want) {
			t.Fatal("something else was read")
		}
		for range pieces {
			d.Rings[0].Add(d.Out(header(in, 0)), page(nil, true), d.In(1))
		}
		d.Kick(0)
		d.Reset()
		d.SetUp(allFeatures)
	}
}

// The cost of requests of 4 KiB, one at a time or many, from the page cache or
// past it.
func BenchmarkRead4K(b *testing.B) {
	for _, direct := range []bool{false, true} {
		for _, depth := range []int{1, 32} {
			b.Run(fmt.Sprintf("direct=%v depth=%d", direct, depth), func(b *testing.B) {
				path := filepath.Join(".", "testdata-disk") // tmpfs has no O_DIRECT everywhere
				if err := os.WriteFile(path, make([]byte, diskSize), 0o600); err != nil {
					b.Fatal(err)
				}
				defer os.Remove(path)
				d := openDisk(b, path, direct, blk.Config{}, allFeatures)
				// O_DIRECT wants memory that is aligned, as a guest's pages are.
				page := virtiotest.Buffer{Addr: d.Alloc(4096, 4096), Data: make([]byte, 4096), Write: true}
				hdr, data, status := d.Out(header(in, 0)), page, d.In(1)
				r := d.Rings[0]
				b.ReportAllocs()
				flying := 0
				for b.Loop() { // a request each
					if flying == depth {
						d.Kick(0)
					}
					for flying == depth {
						r.WantInterrupt(true)
						for _, _, ok := r.Take(); ok; _, _, ok = r.Take() {
							flying--
						}
						if flying == depth {
							d.Interrupt.Wait()
						}
					}
					r.Add(hdr, data, status)
					flying++
				}
			})
		}
	}
}

// A megabyte at a time, in pages, as a guest reads ahead.
func BenchmarkRead1M(b *testing.B) {
	const size, page = 1 << 20, 4096
	for _, direct := range []bool{false, true} {
		b.Run(fmt.Sprintf("direct=%v", direct), func(b *testing.B) {
			path := filepath.Join(".", "testdata-disk") // tmpfs has no O_DIRECT everywhere
			if err := os.WriteFile(path, make([]byte, diskSize), 0o600); err != nil {
				b.Fatal(err)
			}
			defer os.Remove(path)
			d := openDisk(b, path, direct, blk.Config{}, allFeatures)
			// Room for a request in 256 pages: the mock's rings are that long.
			chain := []virtiotest.Buffer{d.Out(header(in, 0))}
			start := d.Alloc(size, page)
			for i := range uint64(size / page / 2) {
				chain = append(chain, virtiotest.Buffer{Addr: start + 2*i*page, Data: make([]byte, 2*page), Write: true})
			}
			chain = append(chain, d.In(1))
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				d.Do(0, chain...)
			}
		})
	}
}
