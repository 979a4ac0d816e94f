package trace

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of the buffers, in records. A vCPU's holds what 400,000 exits a
// second leave in an interval.
const (
	streamSize = 1 << 12
	interval   = 10 * time.Millisecond
)

// Sink is where records go. It is called by one goroutine.
type Sink interface {
	// Record takes a record, which is used again when it returns.
	Record(*Record)
	// Flush: there are no more at the moment.
	Flush()
}

// Recorder takes records from Streams and hands them on in the order of their
// times.
type Recorder struct {
	start time.Time

	mu      sync.Mutex
	streams []*Stream
	sinks   []Sink

	full chan struct{} // a stream is half full
	last chan Sink     // is to be removed
	quit chan struct{}
	done chan struct{}
	once sync.Once
}

// NewRecorder returns a Recorder whose times count from start. Sinks get a record
// within a few hundredths of a second; one whose exit took longer than that to
// serve comes out of order.
func NewRecorder(start time.Time) *Recorder {
	r := &Recorder{
		start: start,
		full:  make(chan struct{}, 1), last: make(chan Sink), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go r.drain()
	return r
}

// Now is the time since the start, in nanoseconds.
func (r *Recorder) Now() int64 { return int64(time.Since(r.start)) }

// Add adds a sink.
func (r *Recorder) Add(s Sink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sinks = append(r.sinks, s)
}

// Remove takes a sink away, when it has been given all that has been put, and
// says how many are left. The sink is not called any more.
func (r *Recorder) Remove(s Sink) int {
	r.last <- s // when the second is received, the first has been dealt with
	r.last <- nil
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sinks)
}

func (r *Recorder) forget(s Sink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sinks = slices.DeleteFunc(slices.Clone(r.sinks), func(have Sink) bool { return have == s })
}

// Stream is where records are put: a buffer between those who make them and the
// Recorder's goroutine. It may be used concurrently, but one for each vCPU keeps
// them from waiting for each other.
type Stream struct {
	recorder *Recorder

	mu    sync.Mutex
	buf   []Record
	spare []Record
	lost  atomic.Uint64
}

// NewStream returns a new Stream.
func (r *Recorder) NewStream() *Stream {
	s := &Stream{recorder: r, buf: make([]Record, 0, streamSize), spare: make([]Record, 0, streamSize)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, s)
	return s
}

// Put adds a record, or drops and counts it when there is no room.
func (s *Stream) Put(r *Record) {
	s.mu.Lock()
	n := len(s.buf)
	if n == cap(s.buf) {
		s.mu.Unlock()
		s.lost.Add(1)
		return
	}
	s.buf = append(s.buf, *r)
	s.mu.Unlock()
	if n == streamSize/2 {
		select {
		case s.recorder.full <- struct{}{}:
		default:
		}
	}
}

// take empties the stream. What it returns holds until the take after the next.
func (s *Stream) take() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.buf
	s.buf, s.spare = s.spare[:0], taken
	return taken
}

// drain empties the streams now and again until Close. It polls, because to wake
// a goroutine for each record would cost the guest more than the record.
func (r *Recorder) drain() {
	defer close(r.done)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var p pending
	var before int64
	for {
		var last Sink
		all := false
		select {
		case <-ticker.C:
		case <-r.full:
		case last = <-r.last:
			all = last != nil
		case <-r.quit:
			return
		}
		now := r.Now()
		sinks := r.collect(&p, now)
		// A record that is being made at this moment may be older than one
		// that is here already. What is older than the last look waits for
		// nobody.
		if all {
			before = now + 1
		}
		p.release(before, sinks)
		before = now
		if last != nil {
			r.forget(last)
		}
	}
}

// collect moves what the streams hold to p, and says who wants it.
func (r *Recorder) collect(p *pending, now int64) []Sink {
	r.mu.Lock()
	streams, sinks := r.streams, r.sinks
	r.mu.Unlock()
	for _, s := range streams {
		p.records = append(p.records, s.take()...)
		if n := s.lost.Swap(0); n > 0 {
			p.records = append(p.records, Record{Kind: Lost, Time: now, Lost: n})
		}
	}
	return sinks
}

// pending are records that wait for older ones.
type pending struct {
	records []Record
	order   []key
}

// key is what records are sorted by: they are too large to be moved about.
type key struct {
	time int64
	at   int
}

// release hands over the records before a time, in order, and keeps the others.
func (p *pending) release(before int64, sinks []Sink) {
	p.order = p.order[:0]
	kept := 0
	for i := range p.records {
		if t := p.records[i].Time; t < before {
			p.order = append(p.order, key{t, i})
		}
	}
	slices.SortStableFunc(p.order, func(a, b key) int { return cmp.Compare(a.time, b.time) })
	for _, s := range sinks {
		for _, k := range p.order {
			s.Record(&p.records[k.at])
		}
		s.Flush()
	}
	for i := range p.records {
		if p.records[i].Time >= before {
			p.records[kept] = p.records[i]
			kept++
		}
	}
	p.records = p.records[:kept]
}

// Close ends the Recorder. Records that are put afterwards go nowhere.
func (r *Recorder) Close() {
	r.once.Do(func() { close(r.quit) })
	<-r.done
}
