package devices

import (
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fake is a device that reads as the offset and remembers what was written.
type fake struct {
	mu     sync.Mutex
	writes []write
}

type write struct {
	Offset uint64
	Data   []byte
}

func (f *fake) Read(offset uint64, data []byte) { data[0] = byte(offset) }

func (f *fake) Write(offset uint64, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = append(f.writes, write{offset, append([]byte(nil), data...)})
}

func TestInsert(t *testing.T) {
	const top = math.MaxUint64
	tests := []struct {
		name       string
		base, size uint64
		ok         bool
	}{
		{"apart, below", 0, 8, true},
		{"touches from below", 0xf0, 0x10, true},
		{"touches from above", 0x110, 0x10, true},
		{"last address", top, 1, true},
		{"up to the last address", top - 15, 16, true},
		{"the same", 0x100, 0x10, false},
		{"inside", 0x104, 4, false},
		{"around", 0x80, 0x100, false},
		{"over the first address", 0xff, 2, false},
		{"over the last address", 0x10f, 2, false},
		{"same start, shorter", 0x100, 1, false},
		{"all of the space but one", 0, top, false},
		{"empty", 0x200, 0, false},
		{"past the end of the space", top, 2, false},
		{"wraps to the device", top - 0xf, 0x200, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b Bus
			if err := b.Insert(0x100, 0x10, "old", &fake{}); err != nil {
				t.Fatal(err)
			}
			err := b.Insert(tt.base, tt.size, "new", &fake{})
			if (err == nil) != tt.ok {
				t.Fatalf("Insert = %v; want success %v", err, tt.ok)
			}
			if _, name, _ := b.Find(0x100); name != "old" {
				t.Errorf("at 0x100 is %q; want \"old\"", name)
			}
			if !tt.ok {
				return
			}
			for _, addr := range []uint64{tt.base, tt.base + tt.size - 1} {
				if _, name, _ := b.Find(addr); name != "new" {
					t.Errorf("at %#x is %q; want \"new\"", addr, name)
				}
			}
		})
	}
}

func TestLookup(t *testing.T) {
	var b Bus
	// Not in the order of their addresses.
	for _, d := range []struct {
		base, size uint64
		name       string
	}{
		{math.MaxUint64 - 1, 2, "top"}, {0x60, 5, "middle"}, {0, 1, "zero"}, {0x70, 2, "next"}, {0x65, 1, "beside"},
	} {
		if err := b.Insert(d.base, d.size, d.name, &fake{}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[uint64]string{
		0: "zero", 1: "", 0x5f: "", 0x60: "middle", 0x64: "middle", 0x65: "beside", 0x66: "",
		0x6f: "", 0x70: "next", 0x71: "next", 0x72: "",
		math.MaxUint64 - 2: "", math.MaxUint64 - 1: "top", math.MaxUint64: "top",
	}
	got := map[uint64]string{}
	for addr := range want {
		_, got[addr], _ = b.Find(addr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAccessReachesTheDeviceAtItsOffset(t *testing.T) {
	var b Bus
	d := &fake{}
	if err := b.Insert(0x3f8, 8, "d", d); err != nil {
		t.Fatal(err)
	}
	data := []byte{0, 0}
	b.Read(0x3fd, data)
	if diff := cmp.Diff([]byte{5, 0xff}, data); diff != "" {
		t.Errorf("a register wider than the device's reads as ones beyond it: %s", diff)
	}
	b.Write(0x3ff, []byte{1, 2}) // reaches past the end
	b.Write(0x3f7, []byte{3, 4}) // and from before the start
	if diff := cmp.Diff([]write{{7, []byte{1}}, {0, []byte{4}}}, d.writes); diff != "" {
		t.Error(diff)
	}
	if n := b.Unclaimed(); n != 2 {
		t.Errorf("%d accesses count as unclaimed; want the two that are in part", n)
	}
	want := []Stray{{0x3ff, 2, true, 1}, {0x3f7, 2, true, 1}}
	if diff := cmp.Diff(want, b.Strays()); diff != "" {
		t.Error(diff)
	}
}

func TestUnclaimed(t *testing.T) {
	var empty, b Bus
	if err := b.Insert(0x10, 1, "d", &fake{}); err != nil {
		t.Fatal(err)
	}
	for _, bus := range []*Bus{&empty, &b} {
		for i, addr := range []uint64{0, 0xe, 0x11, math.MaxUint64} {
			data := make([]byte, 1<<i)
			bus.Read(addr, data)
			for _, v := range data {
				if v != 0xff {
					t.Errorf("%d bytes at %#x read as % x", len(data), addr, data)
					break
				}
			}
			bus.Write(addr, data)
		}
		if n := bus.Unclaimed(); n != 8 {
			t.Errorf("%d unclaimed accesses; want 8", n)
		}
	}
}

// A guest that searches fills the list of strays once, and is counted on.
func TestStrays(t *testing.T) {
	var b Bus
	for range 3 {
		for addr := range uint64(2 * maxStrays) {
			b.Read(addr, make([]byte, 4))
		}
	}
	strays := b.Strays()
	if len(strays) != maxStrays || b.Unclaimed() != 6*maxStrays {
		t.Fatalf("%d strays of %d accesses; want %d of %d", len(strays), b.Unclaimed(), maxStrays, 6*maxStrays)
	}
	if diff := cmp.Diff(Stray{5, 4, false, 3}, strays[5]); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrentAccess(t *testing.T) {
	var b Bus
	for i := range uint64(4) {
		if err := b.Insert(i*0x10, 8, "d", &fake{}); err != nil {
			t.Fatal(err)
		}
	}
	const vcpus, rounds = 4, 1000
	var done sync.WaitGroup
	for vcpu := range uint64(vcpus) {
		done.Go(func() {
			for i := range uint64(rounds) {
				data := []byte{0}
				b.Read(vcpu*0x10+i%8, data)
				if data[0] != byte(i%8) {
					t.Errorf("offset %d read as %d", i%8, data[0])
				}
				b.Write(0x8+vcpu*0x10, data) // between the devices
			}
		})
	}
	done.Wait()
	if n := b.Unclaimed(); n != vcpus*rounds {
		t.Errorf("%d unclaimed accesses; want %d", n, vcpus*rounds)
	}
}
