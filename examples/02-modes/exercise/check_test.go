//go:build amd64 && (solutions || lesson)

package exercise

import (
	"testing"

	"vmm/examples/internal/tiny"
)

func TestDescriptor(t *testing.T) {
	for _, tt := range []struct {
		base, limit uint32
		code, long  bool
		want        uint64
	}{
		{0, 0xf_ffff, true, false, 0x00cf_9b00_0000_ffff},
		{0, 0xf_ffff, false, false, 0x00cf_9300_0000_ffff},
		{0, 0xf_ffff, true, true, 0x00af_9b00_0000_ffff},
		{0x1234_5678, 0x9_abcd, false, false, 0x12c9_9334_5678_abcd},
	} {
		if got := Descriptor(tt.base, tt.limit, tt.code, tt.long); got != tt.want {
			t.Errorf("Descriptor(%#x, %#x, code %v, long %v) = %#016x; want %#016x", tt.base, tt.limit, tt.code, tt.long, got, tt.want)
		}
	}
}

// The processor is asked.
func TestMap(t *testing.T) {
	for _, linear := range []uint64{0, 0xc000_0000, 0x7f_4000_0000} {
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
		s.CR3 = Map(m.RAM, linear)
		if err := m.CPUs[0].SetSregs(s); err != nil {
			t.Fatal(err)
		}
		for _, offset := range []uint64{0, 0x1234, 0x3fff_ffff} {
			got, err := m.CPUs[0].Translate(linear + offset)
			if err != nil {
				t.Fatal(err)
			}
			if got.Valid == 0 || got.Physical != offset {
				t.Errorf("%#x is at %#x (there: %d); want %#x", linear+offset, got.Physical, got.Valid, offset)
			}
		}
		if got, err := m.CPUs[0].Translate(linear + 1<<30); err != nil || got.Valid != 0 {
			t.Errorf("%#x is mapped too (%v)", linear+1<<30, err)
		}
	}
}
