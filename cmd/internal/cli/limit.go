package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// What a guest does can make vmm log something, and a guest may do it a million
// times a second. So lines of one kind, those with the same message, are limited
// in number: limitBurst of them at once, and limitRate a second after that.
const (
	limitBurst = 10
	limitRate  = 1
	// limitKinds is how many kinds are told apart. Messages are vmm's own words
	// and the names of devices, so there are few; any others count as one kind.
	limitKinds = 256
)

// Limit is a slog.Handler in front of another that limits lines of the same kind.
// A line that comes after others were left out says how many; End says it of
// those that nothing came after.
type Limit struct {
	next  slog.Handler
	kinds *kinds
}

type kinds struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]*kind
}

// kind is a bucket of lines that may still be written, and those that were not.
type kind struct {
	room    float64
	filled  time.Time
	leftOut int
}

var _ slog.Handler = (*Limit)(nil)

// NewLimit returns a Limit in front of next.
func NewLimit(next slog.Handler) *Limit {
	return &Limit{next, &kinds{now: time.Now, all: map[string]*kind{}}}
}

// Enabled implements slog.Handler.
func (l *Limit) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (l *Limit) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Limit{l.next.WithAttrs(attrs), l.kinds}
}

// WithGroup implements slog.Handler.
func (l *Limit) WithGroup(name string) slog.Handler {
	return &Limit{l.next.WithGroup(name), l.kinds}
}

// Handle implements slog.Handler.
func (l *Limit) Handle(ctx context.Context, r slog.Record) error {
	before, ok := l.kinds.take(r.Message)
	if !ok {
		return nil
	}
	if before > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", before))
	}
	return l.next.Handle(ctx, r)
}

// take takes room for a line, if there is some, and says how many lines were left
// out since the last that was not.
func (k *kinds) take(message string) (leftOut int, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	b := k.all[message]
	if b == nil {
		if len(k.all) >= limitKinds {
			message = ""
			b = k.all[message]
		}
		if b == nil {
			b = &kind{room: limitBurst, filled: now}
			k.all[message] = b
		}
	}
	b.room = min(limitBurst, b.room+limitRate*now.Sub(b.filled).Seconds())
	b.filled = now
	if b.room < 1 {
		b.leftOut++
		return 0, false
	}
	b.room--
	leftOut, b.leftOut = b.leftOut, 0
	return leftOut, true
}

// End writes how many lines of each kind were left out and not told of yet.
func (l *Limit) End(w io.Writer) {
	l.kinds.mu.Lock()
	defer l.kinds.mu.Unlock()
	var lines []string
	for message, b := range l.kinds.all {
		if b.leftOut > 0 {
			lines = append(lines, fmt.Sprintf("vmm: %d more lines of %q were left out\n", b.leftOut, cmp.Or(message, "other kinds")))
			b.leftOut = 0
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		_, _ = io.WriteString(w, line) // where it cannot be written, nobody reads it
	}
}
