package paging

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/memory"
)

const ram = 1 << 20

func newMemory(t testing.TB, words map[uint64]uint64) *memory.Guest {
	t.Helper()
	m, err := memory.New([]memory.Range{{Start: 0, Size: ram}}, memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	for addr, v := range words {
		if err := m.PutUint64(addr, v); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

var (
	long  = State{CR0: cr0PG, CR3: 0x1000, CR4: cr4PAE, EFER: eferLMA}
	long5 = State{CR0: cr0PG, CR3: 0x1018, CR4: cr4PAE | cr4LA57, EFER: eferLMA} // with flags in CR3
	pae   = State{CR0: cr0PG, CR3: 0x1020, CR4: cr4PAE}
	bits  = State{CR0: cr0PG, CR3: 0x1000, CR4: cr4PSE}
)

const p, pw, pwu = 1, 3, 7

// tables4 map, with four levels: 0 to a 4 KiB page, 2 MiB to a large page, the
// topmost gigabyte to a huge one.
var tables4 = map[uint64]uint64{
	0x1000: 0x2000 | pwu, 0x1ff8: 0x5000 | pw,
	0x2000: 0x3000 | pwu,
	0x3000: 0x4000 | pwu, 0x3008: 0x20_0000 | pw | uint64(Large|Global) | 1<<63,
	0x4000: 0x9000 | pwu | uint64(Dirty|Accessed), 0x4008: 0xa000 | p,
	0x5ff8: 0x4000_0000 | pw | uint64(Large),
}

func TestTranslate(t *testing.T) {
	tables5 := map[uint64]uint64{0x1000: 0x6000 | pwu}
	for addr, v := range tables4 {
		if addr < 0x2000 {
			addr += 0x5000
		}
		tables5[addr] = v
	}
	tables5[0x6ff8] = 0x7000 | pw
	tables5[0x7ff8] = 0x4000_0000 | pw | uint64(Large)
	tables5[0x1ff8] = 0x6000 | pw
	paeTables := map[uint64]uint64{
		0x1020: 0x2000 | p, 0x1038: 0x2000 | p,
		0x2000: 0x3000 | pwu, 0x2008: 0x20_0000 | pw | uint64(Large),
		0x3000: 0x9000 | pwu | 1<<63,
	}
	// Two 32-bit entries to a word.
	tables32 := map[uint64]uint64{
		0x1000: 0x2000 | pwu | (0x40_0000|0x6000|pw|uint64(Large))<<32,
		0x2000: (0x9000 | p) << 32,
	}
	type want struct {
		physical, size uint64
		flags          Flags
		entries        int
	}
	for _, tt := range []struct {
		name   string
		tables map[uint64]uint64
		state  State
		linear uint64
		want   want // physical 0: not mapped
	}{
		{"off", nil, State{}, 0x1234, want{0x1234, 4096, pwu, 0}},
		{"4 levels, 4 KiB", tables4, long, 0x123, want{0x9123, 4096, pwu | Dirty | Accessed, 4}},
		{"read-only, by the last entry", tables4, long, 0x1123, want{0xa123, 4096, p, 4}},
		{"2 MiB", tables4, long, 0x20_1234, want{0x20_1234, 2 << 20, pw | Global | NoExec, 3}},
		{"1 GiB", tables4, long, 0xffff_ffff_c012_3456, want{0x4012_3456, 1 << 30, pw, 2}},
		{"not present", tables4, long, 0x2000, want{0, 0, 0, 4}},
		{"not canonical", tables4, long, 1 << 48, want{0, 0, 0, 0}},
		{"5 levels, 4 KiB", tables5, long5, 0x123, want{0x9123, 4096, pwu | Dirty | Accessed, 5}},
		{"5 levels, 1 GiB", tables5, long5, 0xffff_ffff_c012_3456, want{0x4012_3456, 1 << 30, pw, 3}},
		{"5 levels, beyond 48 bits", tables5, long5, 1 << 48, want{0, 0, 0, 1}},
		{"PAE, 4 KiB", paeTables, pae, 0x123, want{0x9123, 4096, pwu | NoExec, 3}},
		{"PAE, 2 MiB", paeTables, pae, 0xc020_1234, want{0x20_1234, 2 << 20, pw, 2}},
		{"PAE, not present", paeTables, pae, 0x4000_0000, want{0, 0, 0, 1}},
		{"32 bits, 4 KiB", tables32, bits, 0x1123, want{0x9123, 4096, p, 2}},
		{"32 bits, 4 MiB above 4 GiB", tables32, bits, 0x41_2345, want{3<<32 | 0x41_2345, 4 << 20, pw, 1}},
		{"32 bits, not present", tables32, bits, 0x0, want{0, 0, 0, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := Translate(newMemory(t, tt.tables), tt.state, tt.linear)
			if err != nil {
				t.Fatal(err)
			}
			got := want{w.Physical, w.Size, w.Flags, len(w.Entries)}
			if got != tt.want || w.Mapped != (tt.want.size != 0) {
				t.Errorf("%+v; want %+v", w, tt.want)
			}
		})
	}
	if _, err := Translate(newMemory(t, nil), State{CR0: cr0PG, CR3: 1 << 40, CR4: cr4PAE, EFER: eferLMA}, 0); err == nil {
		t.Error("a table outside RAM is found")
	}
}

func TestRanges(t *testing.T) {
	tables := map[uint64]uint64{}
	for addr, v := range tables4 {
		tables[addr] = v
	}
	tables[0x4010], tables[0x4018] = 0xb000|p, 0xd000|p // one that follows the last, and one that does not
	var got []Range
	complete := Ranges(newMemory(t, tables), long, func(r Range) bool {
		got = append(got, r)
		return true
	})
	want := []Range{
		{0, 0x9000, 0x1000, 4096, pwu},
		{0x1000, 0xa000, 0x2000, 4096, p},
		{0x3000, 0xd000, 0x1000, 4096, p},
		{0x20_0000, 0x20_0000, 2 << 20, 2 << 20, pw | Global | NoExec},
		{0xffff_ffff_c000_0000, 0x4000_0000, 1 << 30, 1 << 30, pw},
	}
	if diff := cmp.Diff(want, got); diff != "" || !complete {
		t.Errorf("complete: %v\n%s", complete, diff)
	}
	// Tables that lead to themselves come to an end.
	loop := map[uint64]uint64{}
	for i := range uint64(512) {
		loop[0x1000+8*i] = 0x1000 | pw
	}
	count := 0
	Ranges(newMemory(t, loop), long, func(Range) bool { count++; return count < 1000 })
}

func TestFlags(t *testing.T) {
	if got := (Present | Writable | Global).String(); got != "rwx-g--" {
		t.Errorf("%q", got)
	}
	if got := (Present | User | NoExec | Accessed | Dirty).String(); got != "r--u-ad" {
		t.Errorf("%q", got)
	}
}

// Whatever the tables hold: both ways through them agree.
func FuzzTables(f *testing.F) {
	var seed []byte
	for addr, v := range tables4 {
		seed = binary.LittleEndian.AppendUint16(seed, uint16(addr>>3))
		seed = binary.LittleEndian.AppendUint64(seed, v)
	}
	f.Add(seed, uint8(3), uint64(0x20_1234))
	f.Add(seed, uint8(2), uint64(0x1234))
	m, err := memory.New([]memory.Range{{Start: 0, Size: ram}}, memory.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, mode uint8, linear uint64) {
		all, err := m.Slice(0, 0x10000)
		if err != nil {
			t.Fatal(err)
		}
		clear(all)
		for ; len(b) >= 10; b = b[10:] {
			copy(all[8*(binary.LittleEndian.Uint16(b)%0x2000):], b[2:10])
		}
		s := []State{{}, bits, pae, long, long5}[mode%5]
		w, err := Translate(m, s, linear)
		if err != nil || !w.Mapped {
			return
		}
		found, n := false, 0
		complete := Ranges(m, s, func(r Range) bool {
			if off := w.Linear - r.Linear; off < r.Size && r.Physical+off == w.Physical {
				found = true
			}
			n++
			return n < 10000
		})
		if complete && !found {
			t.Errorf("%#x is mapped to %#x, but no range says so", linear, w.Physical)
		}
	})
}
