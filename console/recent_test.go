package console

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestRecent(t *testing.T) {
	var out bytes.Buffer
	r := NewRecent(&out)
	if at, data := r.Since(0, 0); at != 0 || data != nil {
		t.Errorf("at first: %d, %q", at, data)
	}
	whole := ""
	for _, s := range []string{"hello", "", strings.Repeat("abc", 7000), "x", strings.Repeat("0123456", 3*RecentSize/7), "end"} {
		if n, err := r.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		whole += s
		for _, from := range []int{0, len(whole) - 1, len(whole), len(whole) + 9, max(0, len(whole)-RecentSize+5)} {
			want := min(max(from, len(whole)-RecentSize), len(whole))
			if at, data := r.Since(uint64(from), 0); at != uint64(want) || string(data) != whole[want:] {
				t.Fatalf("of %d bytes, from %d: %d bytes at %d; want those at %d", len(whole), from, len(data), at, want)
			}
		}
	}
	if out.String() != whole {
		t.Error("not all was passed on")
	}
}

// Who waits is woken by a byte, by the end of the time, and by Close.
func TestRecentWaits(t *testing.T) {
	r := NewRecent(new(bytes.Buffer))
	got := make(chan string)
	ask := func(wait time.Duration) {
		_, data := r.Since(0, wait)
		got <- string(data)
	}
	go ask(time.Millisecond)
	if s := <-got; s != "" {
		t.Errorf("%q came from nowhere", s)
	}
	go ask(time.Minute)
	go ask(time.Minute)
	for waiting := false; !waiting; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		waiting = r.more != nil
		r.mu.Unlock()
	}
	if _, err := r.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s := <-got; s != "x" {
			t.Errorf("%q; want x", s)
		}
	}
	go func() {
		r.Since(1, time.Minute)
		r.Since(1, time.Minute)
		got <- "closed"
	}()
	r.Close()
	if s := <-got; s != "closed" {
		t.Error(s)
	}
}
