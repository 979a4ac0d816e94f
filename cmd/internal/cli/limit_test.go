package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestLimit floods a log with lines of two kinds: of each, some come at once, then
// one a second, and those left out are counted.
func TestLimit(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	limit := NewLimit(slog.NewTextHandler(&out, nil))
	limit.kinds.now = func() time.Time { return now }
	log := slog.New(limit)

	for i := range 100_000 {
		log.Info("flood", "i", i)
	}
	log.Warn("disk full")
	now = now.Add(time.Second)
	log.With("device", 1).Info("flood")
	log.Info("flood")
	limit.End(&out)

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := limitBurst + 1 + 1 + 1; len(lines) != want {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), want, out.String())
	}
	for i, want := range map[int]string{
		limitBurst:     "disk full",
		limitBurst + 1: fmt.Sprintf("left_out=%d", 100_000-limitBurst),
		limitBurst + 2: `vmm: 1 more lines of "flood" were left out`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q; want %q in it", i, lines[i], want)
		}
	}
}

// TestLimitKinds has more kinds of lines than are told apart: the map stays small,
// and so does the output.
func TestLimitKinds(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	limit := NewLimit(slog.NewTextHandler(&out, nil))
	limit.kinds.now = func() time.Time { return now }
	log := slog.New(limit)

	for i := range 10_000 {
		log.Info(fmt.Sprintf("kind %d", i))
	}

	if n := len(limit.kinds.all); n > limitKinds+1 {
		t.Errorf("%d kinds are kept", n)
	}
	if n := strings.Count(out.String(), "\n"); n != limitKinds+limitBurst {
		t.Errorf("%d lines; want %d", n, limitKinds+limitBurst)
	}
}
