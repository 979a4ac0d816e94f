package debugexit

import "testing"

func TestWrite(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want uint32
	}{
		{"byte", []byte{0x81}, 0x81},
		{"word", []byte{0x34, 0x12}, 0x1234},
		{"double word", []byte{0x78, 0x56, 0x34, 0xf2}, 0xf2345678},
		{"zero", []byte{0}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls, got := 0, ^uint32(0)
			New(func(v uint32) { calls, got = calls+1, v }).Write(0, tt.data)
			if calls != 1 || got != tt.want {
				t.Errorf("%d calls, the last with %#x; want one with %#x", calls, got, tt.want)
			}
		})
	}
}

func TestReadsAsZero(t *testing.T) {
	data := []byte{0xff, 0xff}
	New(func(uint32) { t.Error("a read ended the machine") }).Read(0, data)
	if data[0] != 0 || data[1] != 0 {
		t.Errorf("reads as % x; want zeros", data)
	}
}
