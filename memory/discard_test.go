package memory

import "testing"

func TestDiscard(t *testing.T) {
	g := newGuest(t, Range{0, 64 * PageSize})
	all, err := g.Slice(0, 64*PageSize)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = 1
	}
	before := resident(t)
	for _, r := range [][2]int{{0, 0}, {1, PageSize}, {PageSize, PageSize + 1}, {3*PageSize - 1, 60*PageSize + 2}} {
		if err := g.Discard(all[r[0]:][:r[1]]); err != nil {
			t.Error(err)
		}
	}
	for i, b := range all {
		page := i / PageSize
		if zero := page == 1 || page >= 3 && page < 63; (b == 0) != zero {
			t.Fatalf("byte %#x is %d", i, b)
		}
	}
	if freed := before - resident(t); freed < 30*PageSize {
		t.Errorf("%d bytes given back", freed)
	}
}
