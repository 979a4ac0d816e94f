package blk

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/memory"
	"vmm/uring"
)

// Types of requests and their results. virtio §5.2.6.
const (
	typeIn          = 0
	typeOut         = 1
	typeFlush       = 4
	typeGetID       = 8
	typeDiscard     = 11
	typeWriteZeroes = 13

	statusOK          = 0
	statusIOErr       = 1
	statusUnsupported = 2
)

const headerSize = 16

var typeNames = map[uint32]string{
	typeIn: "a read", typeOut: "a write", typeFlush: "a flush", typeDiscard: "a discard", typeWriteZeroes: "writing zeroes",
}

// request is a request of the driver, from Pop to Push. Requests are used
// again.
type request struct {
	server *server
	number uint64 // in server.all
	chain  virtio.Chain
	vector memory.Vector // of a part of data, at most maxMove

	kind   uint32
	off    int64          // in bytes: of what is left of data
	data   virtio.Buffers // to be read or written, as far as that is not done
	size   uint64         // of data at first, which may be in hundreds of pieces
	status []byte         // the byte for the result
	ranges []span         // to be discarded or zeroed

	flying int64 // its weight while it waits for the storage
	stored int64 // what it keeps when it does not, in pieces
}

// span is a range of the disk, in bytes.
type span struct {
	off, n int64
	unmap  bool
}

// weight is what a request that waits for the storage takes of the host: a list of
// its pieces, or ranges, and the pages that are under way.
func (r *request) weight() int64 {
	const page = 4096
	return int64(len(r.data)) + int64(len(r.ranges)) + int64(min(r.size, maxMove)/page) + 1
}

// server serves one queue.
type server struct {
	device *Device
	queue  *virtio.Queue
	all    []*request  // by number
	ring   *uring.Ring // nil: threads wait for the storage

	room   int64        // that requests have
	flying atomic.Int64 // what those that wait for the storage weigh
	full   atomic.Bool  // the worker waits for that to be less than room

	mu     sync.Mutex
	free   []*request
	stored int64 // by those that are free
}

func (s *server) get() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.free) - 1; last >= 0 {
		r := s.free[last]
		s.free = s.free[:last]
		s.stored -= r.stored
		return r
	}
	r := &request{server: s, number: uint64(len(s.all))}
	s.all = append(s.all, r)
	return r
}

// put takes a request back, to be used again. Its lists are kept for the next one,
// unless others have kept enough.
func (s *server) put(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.data, r.ranges, r.status = nil, nil, nil
	if r.stored = int64(r.chain.Cap()); s.stored+r.stored > s.room {
		r.chain, r.vector, r.stored = virtio.Chain{}, memory.Vector{}, 0
	}
	s.stored += r.stored
	s.free = append(s.free, r)
}

// wait notes that a request waits for the storage from now on. finish ends that.
func (s *server) wait(r *request) {
	r.flying = r.weight()
	s.flying.Add(r.flying)
}

// crowded reports whether no more requests may wait for the storage at the moment.
// Then lighter wakes the worker.
func (s *server) crowded() bool {
	if s.flying.Load() < s.room {
		return false
	}
	s.full.Store(true)
	return s.flying.Load() >= s.room
}

// lighter wakes a worker for which it was too crowded.
func (s *server) lighter() {
	if s.flying.Load() < s.room && s.full.Swap(false) {
		s.queue.Wake()
	}
}

// serve takes all requests that wait. Those that need not wait for the storage
// are served here and now: that takes less time than to wake somebody else. The
// driver is told of several answers at once: an interrupt costs more than a
// small request.
func (s *server) serve() {
	defer s.queue.Notify()
	for !s.crowded() {
		r := s.get()
		if !s.queue.Pop(&r.chain) {
			s.put(r)
			return
		}
		status, ok := r.parse()
		if !ok {
			r.finish(status, nil)
			continue
		}
		if !s.device.admit(r) {
			s.queue.Unpop(&r.chain)
			s.put(r)
			return
		}
		size := r.size
		status, err := r.serve(false)
		if err == unix.EAGAIN {
			s.later(r)
			continue
		}
		r.finish(status, err)
		s.queue.NotifySoon(size)
	}
}

// admit waits until the limits let a request pass. It returns false when the
// device is stopped first.
func (d *Device) admit(r *request) bool {
	if d.iops == nil && d.bytes == nil {
		return true
	}
	delay := d.iops.reserve(1)
	if r.kind == typeIn || r.kind == typeOut {
		delay = max(delay, d.bytes.reserve(r.size))
	}
	if delay == 0 {
		return true
	}
	r.server.queue.Notify() // of those before: this may take a while
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.stop:
		return false
	}
}

// parse takes the request apart and checks it. When it is not ok, status is
// the answer.
func (r *request) parse() (status byte, ok bool) {
	r.data, r.size, r.ranges, r.kind = nil, 0, nil, ^uint32(0)
	in, out := r.chain.Readable, r.chain.Writable
	// The status is the last byte of the request, wherever that lies. virtio
	// §5.2.6: drivers do not rely on a certain split into descriptors.
	r.status = out.CutLast()
	var header [headerSize]byte
	if in.Read(header[:]) < headerSize || r.status == nil {
		return statusIOErr, false
	}
	r.kind = le.Uint32(header[:])
	sector := le.Uint64(header[8:])
	switch r.kind {
	case typeIn:
		r.data = out
	case typeOut:
		r.data = in
	case typeDiscard, typeWriteZeroes:
		if r.server.device.config.ReadOnly {
			return statusIOErr, false
		}
		return r.parseRanges(in)
	case typeGetID:
		r.data, r.size = out, min(out.Len(), SerialSize)
		return 0, true
	case typeFlush:
		return 0, true
	default:
		return statusUnsupported, false
	}
	// virtio §5.2.5.2: no more than the device has said.
	if len(r.data) > maxSegments || slices.ContainsFunc(r.data, func(p []byte) bool { return len(p) > maxSegmentSize }) {
		return statusIOErr, false
	}
	r.size = r.data.Len()
	if r.size%SectorSize != 0 || !r.inside(sector, r.size/SectorSize) || r.kind == typeOut && r.server.device.config.ReadOnly {
		return statusIOErr, false
	}
	r.off = int64(sector * SectorSize)
	return 0, true
}

// inside reports whether n sectors from the given one on lie on the disk.
func (r *request) inside(sector, n uint64) bool {
	size := uint64(r.server.device.config.Image.Size()) / SectorSize
	return sector <= size && n <= size-sector
}

// parseRanges reads the ranges of a discard or write-zeroes request. virtio
// §5.2.6.
func (r *request) parseRanges(in virtio.Buffers) (status byte, ok bool) {
	const rangeSize, flagUnmap = 16, 1
	var b [rangeSize]byte
	for n := in.Read(b[:]); n > 0; n = in.Read(b[:]) {
		sector, count, flags := le.Uint64(b[:]), uint64(le.Uint32(b[8:])), le.Uint32(b[12:])
		switch {
		case n < rangeSize || len(r.ranges) == maxRanges || count > maxRangeSectors || !r.inside(sector, count):
			return statusIOErr, false
		case flags&^flagUnmap != 0, r.kind == typeDiscard && flags != 0:
			return statusUnsupported, false
		}
		r.ranges = append(r.ranges, span{int64(sector * SectorSize), int64(count * SectorSize), flags&flagUnmap != 0})
	}
	return 0, true
}

// serve does what is requested. When wait is false, it fails with unix.EAGAIN
// if it would have to wait for the storage, and may be called again to go on.
func (r *request) serve(wait bool) (status byte, err error) {
	d := r.server.device
	switch r.kind {
	case typeIn, typeOut:
		err = r.move(wait)
	case typeGetID:
		var id [SerialSize]byte
		copy(id[:], d.config.Serial)
		dst := r.data
		dst.Write(id[:])
	default:
		if !wait {
			return 0, unix.EAGAIN
		}
		err = r.serveSlow()
	}
	switch err {
	case nil:
		return statusOK, nil
	case unix.EOPNOTSUPP:
		return statusUnsupported, nil
	case errStopped:
		return statusIOErr, nil // nobody waits for the answer
	}
	return statusIOErr, err
}

var errStopped = errors.New("the device was reset")

// stopped fails once nobody waits for an answer any more.
func (d *Device) stopped() error {
	if d.dropped.Load() {
		return errStopped
	}
	return nil
}

// move reads or writes what is left of data.
func (r *request) move(wait bool) error {
	d := r.server.device
	for len(r.data) > 0 {
		if err := d.stopped(); err != nil {
			return err
		}
		n := r.next()
		var err error
		if r.kind == typeIn {
			err = d.config.Image.Read(&r.vector, r.off, wait)
		} else {
			err = d.config.Image.Write(&r.vector, r.off, d.sync, wait)
		}
		if err != nil {
			return err
		}
		r.moved(n)
	}
	return nil
}

// next makes vector what is to be moved next, and returns how many bytes that is.
func (r *request) next() int {
	r.vector.Set(nil)
	n := 0
	for i := 0; i < len(r.data) && n < maxMove; i++ {
		piece := r.data[i]
		piece = piece[:min(len(piece), maxMove-n)]
		r.vector.Add([][]byte{piece})
		n += len(piece)
	}
	return n
}

// moved notes that n more bytes of data have been moved.
func (r *request) moved(n int) {
	r.data.Skip(uint64(n))
	r.off += int64(n)
}

func (r *request) serveSlow() error {
	image := r.server.device.config.Image
	if r.kind == typeFlush {
		return image.Flush()
	}
	for _, s := range r.ranges {
		for s.n > 0 { // fallocate(2) takes no empty range
			if err := r.server.device.stopped(); err != nil {
				return err
			}
			var err error
			n := min(s.n, maxClear)
			if r.kind == typeDiscard {
				err = image.Discard(s.off, n)
			} else {
				err = image.Zero(s.off, n, s.unmap)
			}
			if err != nil {
				return err
			}
			s.off += n
			s.n -= n
		}
	}
	return nil
}

// finish answers the driver, which is to be told.
func (r *request) finish(status byte, err error) {
	s := r.server
	if err != nil {
		s.device.report(typeNames[r.kind], err)
	}
	written := uint32(0)
	if r.status != nil {
		r.status[0] = status
		written = 1
		// Of a read that failed, nobody knows how far it came.
		if status == statusOK && (r.kind == typeIn || r.kind == typeGetID) {
			written += uint32(r.size) // at most maxSegments*maxSegmentSize
		}
	}
	s.flying.Add(-r.flying)
	r.flying = 0
	s.queue.Push(&r.chain, written)
	s.put(r)
}
