package console

import (
	"io"
	"sync"
	"time"
)

// RecentSize is how much Recent keeps, in bytes.
const RecentSize = 64 << 10

// Recent passes on what the guest writes, and keeps the last of it for those who
// come later. It costs no one a wait.
type Recent struct {
	w io.Writer

	mu     sync.Mutex
	kept   [RecentSize]byte // the byte written as number n is at n modulo its size
	total  uint64           // bytes written
	more   chan struct{}    // closed at the next write, or Close; nil when nobody waits
	closed bool
}

var _ io.Writer = (*Recent)(nil)

// NewRecent returns a Recent that passes everything on to w.
func NewRecent(w io.Writer) *Recent { return &Recent{w: w} }

// Write implements io.Writer. It returns what w does.
func (r *Recent) Write(p []byte) (int, error) {
	r.mu.Lock()
	last := p[max(0, len(p)-RecentSize):]
	at := r.total + uint64(len(p)-len(last))
	for len(last) > 0 {
		n := copy(r.kept[at%RecentSize:], last)
		last, at = last[n:], at+uint64(n)
	}
	r.total = at
	r.wake()
	r.mu.Unlock()
	return r.w.Write(p)
}

// wake lets those in Since go on. The caller holds the lock.
func (r *Recent) wake() {
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
}

// Since returns what was written from byte number from on, as far as it is kept,
// and the number of its first byte. When there is nothing yet, it waits that long.
func (r *Recent) Since(from uint64, wait time.Duration) (at uint64, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from >= r.total && wait > 0 && !r.closed {
		if r.more == nil {
			r.more = make(chan struct{})
		}
		more := r.more
		r.mu.Unlock()
		select {
		case <-more:
		case <-time.After(wait):
		}
		r.mu.Lock()
	}
	if r.total > RecentSize {
		from = max(from, r.total-RecentSize)
	}
	at = min(from, r.total)
	for n := at; n < r.total; {
		part := r.kept[n%RecentSize:]
		part = part[:min(uint64(len(part)), r.total-n)]
		data, n = append(data, part...), n+uint64(len(part))
	}
	return at, data
}

// Close ends the waits of readers. Writing goes on as before.
func (r *Recent) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.wake()
}
