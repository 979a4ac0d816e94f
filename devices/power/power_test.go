package power

import (
	"slices"
	"testing"
)

func TestWrite(t *testing.T) {
	const enable = 1 << 5
	tests := []struct {
		name   string
		offset uint64
		data   []byte
		want   []string
	}{
		{"S5", SleepControl, []byte{TypeS5<<2 | enable}, []string{"off"}},
		{"S5 with the ignored bits set", SleepControl, []byte{0xc3 | TypeS5<<2 | enable}, []string{"off"}},
		{"S5 without enable", SleepControl, []byte{TypeS5 << 2}, nil},
		{"another sleep type", SleepControl, []byte{3<<2 | enable}, nil},
		{"wake status cleared", SleepStatus, []byte{0x80}, nil},
		{"S5 written to the status", SleepStatus, []byte{TypeS5<<2 | enable}, nil},
		{"reset", Reset, []byte{ResetValue}, []string{"reset"}},
		{"reset with another value", Reset, []byte{0xff}, nil},
		{"reset value to sleep control", SleepControl, []byte{ResetValue}, nil},
		{"the byte that is none", 3, []byte{ResetValue}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			r := New(func() { got = append(got, "off") }, func() { got = append(got, "reset") })
			r.Write(tt.offset, tt.data)
			if !slices.Equal(got, tt.want) {
				t.Errorf("called %v; want %v", got, tt.want)
			}
		})
	}
}

func TestReadsAsZero(t *testing.T) {
	r := New(func() {}, func() {})
	r.Write(SleepControl, []byte{3<<2 | 1<<5})
	for offset := range uint64(Size) {
		data := []byte{0xff}
		if r.Read(offset, data); data[0] != 0 {
			t.Errorf("offset %d reads as %#x; want 0", offset, data[0])
		}
	}
}
