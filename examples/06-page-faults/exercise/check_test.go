//go:build amd64 && (solutions || lesson)

package exercise

import (
	"encoding/binary"
	"slices"
	"testing"

	"vmm/examples/internal/tiny"
)

// The processor is asked.
func TestWalk(t *testing.T) {
	m, err := tiny.New([]byte{0xf4}, tiny.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.LongMode(); err != nil {
		t.Fatal(err)
	}
	s, err := m.CPUs[0].Sregs()
	if err != nil {
		t.Fatal(err)
	}
	// Beside the map of LongMode, in pages of 2 MiB: some of 4 KiB, a table that
	// is not in memory, and an entry that is not present.
	for at, entry := range map[uint64]uint64{
		s.CR3 + 8: 0x20_0003, 0x20_0000: 0x20_1003, 0x20_1000: 0x20_2003, 0x20_2000 + 8*5: 0x30_0003,
		0x20_1008: 0x7000_0003, 0x20_1010: 0x20_3002,
	} {
		binary.LittleEndian.PutUint64(m.RAM[at:], entry)
	}
	for _, linear := range []uint64{
		0, 0x1234, 0x1f_ffff, 0x20_0000, 0xfee0_0000, 0x80_0000_5123, 0x80_0000_4000, 0x80_0040_0000, 0x100_0000_0000, 1 << 32,
	} {
		want, err := m.CPUs[0].Translate(linear)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := Walk(m.RAM, s.CR3, linear)
		if ok != (want.Valid != 0) || ok && got != want.Physical {
			t.Errorf("Walk(%#x) = %#x, %v; the processor says %#x, %v", linear, got, ok, want.Physical, want.Valid != 0)
		}
	}
	if _, ok := Walk(m.RAM, s.CR3, 0x80_0020_0000); ok {
		t.Error("a table outside of memory leads somewhere")
	}
}

func TestDirty(t *testing.T) {
	got := Dirty([]uint64{1 | 1<<63, 0, 6})
	if want := []int{0, 63, 129, 130}; !slices.Equal(got, want) {
		t.Errorf("Dirty = %v; want %v", got, want)
	}
}
