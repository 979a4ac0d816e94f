package memory

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResident(t *testing.T) {
	g, err := New([]Range{{0, 64 * PageSize}, {1 << 30, 256 << 20}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, addr := range []uint64{0, 5 * PageSize, 63 * PageSize, 1<<30 + 100<<20, 1<<30 + 100<<20 + PageSize} {
		if err := g.PutUint32(addr, 1); err != nil {
			t.Fatal(err)
		}
	}
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	for _, tt := range []struct {
		start, size, cell uint64
		want              []uint32
	}{
		{0, 64 * PageSize, 16 * PageSize, []uint32{2, 0, 0, 1}},
		{PageSize, 63 * PageSize, 60 * PageSize, []uint32{1, 1}},
		{0, PageSize, 1 << 30, []uint32{1}},
		{0, 0, PageSize, []uint32{}},
		{1<<30 + 64<<20, 192 << 20, 64 << 20, nil},
	} {
		got, err := g.Resident(pagemap, tt.start, tt.size, tt.cell)
		if err != nil {
			t.Errorf("%#x+%#x: %v", tt.start, tt.size, err)
		}
		if tt.want == nil { // the host may have taken a huge page
			if got[0] < 2 || got[1]+got[2] != 0 {
				t.Errorf("%#x+%#x: %v", tt.start, tt.size, got)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%#x+%#x: %s", tt.start, tt.size, diff)
		}
	}
	for _, bad := range [][3]uint64{{0, 65 * PageSize, PageSize}, {1, PageSize, PageSize}, {0, PageSize, 0}, {0, PageSize, 7}} {
		if _, err := g.Resident(pagemap, bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}
