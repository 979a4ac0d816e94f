package blk

import (
	"sync"
	"time"
)

// limiter lets a number of events a second pass, and a tenth of a second's at once.
type limiter struct {
	rate  float64       // events in a second
	burst time.Duration // that may be made up for

	mu   sync.Mutex
	next time.Time // when all that was let pass is over
}

// newLimiter returns a limiter for n events a second, nil for no limit.
func newLimiter(n int) *limiter {
	if n <= 0 {
		return nil
	}
	l := &limiter{rate: float64(n)}
	l.burst = max(time.Second/10, l.take(1))
	return l
}

// take is how long n events take.
func (l *limiter) take(n uint64) time.Duration {
	return time.Duration(float64(n) / l.rate * float64(time.Second))
}

// reserve takes n events, and returns how long to wait before they may happen.
func (l *limiter) reserve(n uint64) time.Duration {
	if l == nil || n == 0 {
		return 0
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := now.Add(-l.burst); l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.next.Add(l.take(n))
	return max(l.next.Sub(now), 0)
}
