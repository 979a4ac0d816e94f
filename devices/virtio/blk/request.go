package blk

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

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
	vector memory.Vector

	kind   uint32
	off    int64           // in bytes
	data   virtio.Buffers  // to be read or written
	size   uint64          // of data, which may be in hundreds of pieces
	status []byte          // the byte for the result
	ranges [maxRanges]span // to be discarded or zeroed
	spans  int
}

// span is a range of the disk, in bytes.
type span struct {
	off, n int64
	unmap  bool
}

// server serves one queue.
type server struct {
	device *Device
	queue  *virtio.Queue
	all    []*request  // by number
	ring   *uring.Ring // nil before its first use
	noRing bool        // the host has none

	mu   sync.Mutex
	free []*request
}

func (s *server) get() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.free) - 1; last >= 0 {
		r := s.free[last]
		s.free = s.free[:last]
		return r
	}
	r := &request{server: s, number: uint64(len(s.all))}
	s.all = append(s.all, r)
	return r
}

func (s *server) put(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, r)
}

// serve takes all requests that wait. Those that need not wait for the storage
// are served here and now: that takes less time than to wake somebody else. The
// driver is told of several answers at once: an interrupt costs more than a
// small request.
func (s *server) serve() {
	defer s.queue.Notify()
	for {
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
			return // a reset: the driver does not wait for an answer
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
	delay := reserve(d.iops, 1)
	if r.kind == typeIn || r.kind == typeOut {
		delay = max(delay, reserve(d.bytes, r.size))
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

// reserve takes n from a limiter and returns how long to wait for it. What is
// more than the limiter holds at once is taken in parts.
func reserve(l *rate.Limiter, n uint64) time.Duration {
	if l == nil {
		return 0
	}
	var delay time.Duration
	for now := time.Now(); n > 0; {
		part := min(n, uint64(l.Burst()))
		delay = l.ReserveN(now, int(part)).DelayFrom(now)
		n -= part
	}
	return delay
}

// parse takes the request apart and checks it. When it is not ok, status is
// the answer.
func (r *request) parse() (status byte, ok bool) {
	r.data, r.size, r.spans, r.kind = nil, 0, 0, ^uint32(0)
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
		r.data, r.size = out, out.Len()
		return 0, true
	case typeFlush:
		return 0, true
	default:
		return statusUnsupported, false
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
		case n < rangeSize || r.spans == maxRanges || count > maxRangeSectors || !r.inside(sector, count):
			return statusIOErr, false
		case flags&^flagUnmap != 0, r.kind == typeDiscard && flags != 0:
			return statusUnsupported, false
		}
		r.ranges[r.spans] = span{int64(sector * SectorSize), int64(count * SectorSize), flags&flagUnmap != 0}
		r.spans++
	}
	return 0, true
}

// serve does what is requested. When wait is false, it fails with unix.EAGAIN
// if it would have to wait for the storage.
func (r *request) serve(wait bool) (status byte, err error) {
	d := r.server.device
	image := d.config.Image
	switch r.kind {
	case typeIn:
		r.vector.Set(r.data)
		err = image.Read(&r.vector, r.off, wait)
	case typeOut:
		r.vector.Set(r.data)
		err = image.Write(&r.vector, r.off, d.sync, wait)
	case typeGetID:
		var id [SerialSize]byte
		copy(id[:], d.config.Serial)
		dst := r.data
		dst.Write(id[:])
	default:
		if !wait {
			return 0, unix.EAGAIN
		}
		err = r.serveSlow(image)
	}
	switch err {
	case nil:
		return statusOK, nil
	case unix.EOPNOTSUPP:
		return statusUnsupported, nil
	}
	return statusIOErr, err
}

func (r *request) serveSlow(image Image) error {
	if r.kind == typeFlush {
		return image.Flush()
	}
	for _, s := range r.ranges[:r.spans] {
		var err error
		if s.n == 0 {
			continue // fallocate(2) takes no empty range
		}
		if r.kind == typeDiscard {
			err = image.Discard(s.off, s.n)
		} else {
			err = image.Zero(s.off, s.n, s.unmap)
		}
		if err != nil {
			return err
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
		if r.kind == typeIn || r.kind == typeGetID {
			written += uint32(r.size)
		}
	}
	s.queue.Push(&r.chain, written)
	s.put(r)
}
