package memory

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newGuest(t testing.TB, ranges ...Range) *Guest {
	t.Helper()
	g, err := New(ranges, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestLayout(t *testing.T) {
	tests := []struct {
		name string
		size uint64
		want []Range
	}{
		{"small", 128 << 20, []Range{{0, 128 << 20}}},
		{"up to the hole", 3 << 30, []Range{{0, 3 << 30}}},
		{"a page more", 3<<30 + PageSize, []Range{{0, 3 << 30}, {4 << 30, PageSize}}},
		{"8 GiB", 8 << 30, []Range{{0, 3 << 30}, {4 << 30, 5 << 30}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Layout(tt.size)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSlice(t *testing.T) {
	g := newGuest(t, Range{0, 4 * PageSize}, Range{HoleEnd, 2 * PageSize})
	const low, high = 4 * PageSize, HoleEnd + 2*PageSize
	tests := []struct {
		name    string
		addr, n uint64
		ok      bool
	}{
		{"first byte", 0, 1, true},
		{"last byte below", low - 1, 1, true},
		{"all below", 0, low, true},
		{"one past the end", low - 1, 2, false},
		{"in the hole", low, 1, false},
		{"empty at the end", low, 0, true},
		{"empty past the end", low + 1, 0, false},
		{"first byte above", HoleEnd, 1, true},
		{"last byte above", high - 1, 1, true},
		{"past the end above", high - 1, 2, false},
		{"across the hole", 0, HoleEnd + 1, false},
		{"length wraps", 8, math.MaxUint64, false},
		{"sum wraps to 0", math.MaxUint64, 1, false},
		{"address near the top", math.MaxUint64 - 7, 8, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := g.Slice(tt.addr, tt.n)
			if tt.ok {
				if err != nil || uint64(len(s)) != tt.n || cap(s) != len(s) {
					t.Errorf("Slice = %d bytes of %d, %v; want %d and no more", len(s), cap(s), err, tt.n)
				}
				return
			}
			var e *RangeError
			if !errors.As(err, &e) || *e != (RangeError{tt.addr, tt.n}) {
				t.Errorf("Slice = %v; want a RangeError for %#x+%#x", err, tt.addr, tt.n)
			}
		})
	}
}

func TestLoadsAndStores(t *testing.T) {
	g := newGuest(t, Range{0, PageSize})
	if err := g.PutUint64(8, 0x8877665544332211); err != nil {
		t.Fatal(err)
	}
	if err := g.PutUint32(16, 0xccbbaa99); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 12)
	if n, err := g.ReadAt(p, 8); n != 12 || err != nil {
		t.Fatalf("ReadAt = %d, %v", n, err)
	}
	if want := []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc}; !bytes.Equal(p, want) {
		t.Errorf("memory holds % x; want % x", p, want)
	}
	if v, err := g.Uint16(9); v != 0x3322 || err != nil {
		t.Errorf("Uint16(9) = %#x, %v", v, err)
	}
	if v, err := g.Uint32(9); v != 0x55443322 || err != nil {
		t.Errorf("Uint32(9) = %#x, %v", v, err)
	}
	if v, err := g.Uint64(9); v != 0x9988776655443322 || err != nil {
		t.Errorf("Uint64(9) = %#x, %v", v, err)
	}
	for name, err := range map[string]error{
		"Uint16":    second(g.Uint16(PageSize - 1)),
		"Uint32":    second(g.Uint32(PageSize - 3)),
		"Uint64":    second(g.Uint64(PageSize - 7)),
		"PutUint32": g.PutUint32(PageSize-3, 0),
		"PutUint64": g.PutUint64(PageSize-7, 0),
		"ReadAt":    second(g.ReadAt(p, PageSize-11)),
		"WriteAt":   second(g.WriteAt(p, -1)),
	} {
		if err == nil {
			t.Errorf("%s past the end succeeded", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNewRefuses(t *testing.T) {
	tests := map[string][]Range{
		"odd start":    {{1, PageSize}},
		"odd size":     {{0, PageSize + 1}},
		"empty":        {{0, 0}},
		"overlap":      {{0, 2 * PageSize}, {PageSize, PageSize}},
		"wrong order":  {{PageSize, PageSize}, {0, PageSize}},
		"past the top": {{math.MaxUint64 - PageSize + 1, 2 * PageSize}},
	}
	for name, ranges := range tests {
		if g, err := New(ranges, Options{}); err == nil {
			g.Close()
			t.Errorf("%s: New succeeded", name)
		}
	}
}

// A pool of huge pages that is too small is an error that says so. (No host has
// a pool of 16 TiB.)
func TestTooFewHugePages(t *testing.T) {
	_, err := New([]Range{{0, 16 << 40}}, Options{HugePages: true})
	if !errors.Is(err, ErrHugePages) || !strings.Contains(err.Error(), "add 8388608 to /proc/sys/vm/nr_hugepages") {
		t.Errorf("New: %v; want %v, and what to do", err, ErrHugePages)
	}
}

// RAM is committed as it is touched, and not before.
func TestCommittedLazily(t *testing.T) {
	before := resident(t)
	g := newGuest(t, Range{0, 1 << 30})
	if grown := resident(t) - before; grown > 8<<20 {
		t.Errorf("mapping 1 GiB took %d MiB of memory", grown>>20)
	}
	s, err := g.Slice(512<<20, 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(s); i += PageSize {
		s[i] = 1
	}
	if grown := resident(t) - before; grown < 32<<20 || grown > 48<<20 {
		t.Errorf("touching 32 MiB took %d MiB of memory", grown>>20)
	}
}

// resident is this process's resident set size in bytes.
func resident(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
