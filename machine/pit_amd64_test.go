package machine

import (
	"context"
	"testing"
)

// A guest finds a timer that works, whichever of its ports it reaches for
// first; one that reaches for none has none.
func TestPIT(t *testing.T) {
	tests := []struct {
		name    string
		code    []byte
		value   uint32
		created bool
	}{
		{"channel 2, by its gate", []byte{
			0xe4, 0x61, 0x0c, 0x01, 0xe6, 0x61, //       open the gate
			0xb0, 0xb0, 0xe6, 0x43, //                   out 0xb0, $0x43: channel 2, both bytes, mode 0
			0xb0, 0xe8, 0xe6, 0x42, 0xb0, 0x03, 0xe6, 0x42, // from 1000
			0xe4, 0x61, 0xa8, 0x20, 0x74, 0xfa, //       1: in $0x61; test $0x20; jz 1b
			0xb0, 0x07, 0xe6, 0xf4, //                   out 7, $0xf4
		}, 7, true},
		{"channel 0, by its control word", []byte{
			0xb0, 0x34, 0xe6, 0x43, //                   channel 0, both bytes, mode 2
			0xb0, 0xe8, 0xe6, 0x40, 0xb0, 0x03, 0xe6, 0x40,
			0xb0, 0xe2, 0xe6, 0x43, 0xe4, 0x40, //       read back its status
			0x24, 0x3f, 0xe6, 0xf4, //                   out status & 0x3f, $0xf4
		}, 0x34, true},
		{"channel 1, mode 7, by its control word", []byte{
			0xb0, 0x5e, 0xe6, 0x43, //                   channel 1, low byte, mode 7: 3
			0xb0, 0x80, 0xe6, 0x41,
			0xb0, 0xe4, 0xe6, 0x43, 0xe4, 0x41,
			0x24, 0x3f, 0xe6, 0xf4,
		}, 0x16, true},
		{"read before it is set up", []byte{0xe4, 0x40, 0xe6, 0xf4}, 0, true},
		{"never", []byte{0xb0, 0x01, 0xe6, 0xf4}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.code, func(c *Config) { c.DebugExit = true })
			o, err := m.Run(context.Background())
			if err != nil || o.Kind != DebugExit || o.Value != tt.value {
				t.Errorf("Run = %+v, %v; want debug exit %#x", o, err, tt.value)
			}
			if _, err := m.vm.PIT(); (err == nil) != tt.created {
				t.Errorf("the timer is there: %v; want %v", err == nil, tt.created)
			}
			kinds := map[string]string{}
			for _, a := range m.Ports() {
				kinds[a.Name] += a.Kind
			}
			want := map[bool]string{false: "device", true: "KVM"}[tt.created]
			if kinds["PIT"] != want || kinds["PIT gate"] != want {
				t.Errorf("its ports are of %q, its gate's of %q; want %q", kinds["PIT"], kinds["PIT gate"], want)
			}
		})
	}
}
