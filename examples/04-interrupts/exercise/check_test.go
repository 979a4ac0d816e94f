//go:build amd64 && (solutions || lesson)

package exercise

import (
	"fmt"
	"testing"
)

func TestGate(t *testing.T) {
	if got, want := fmt.Sprintf("%x", Gate(0x1122_3344_5566_7788)), "88770800008e66554433221100000000"; got != want {
		t.Errorf("Gate = %s; want %s", got, want)
	}
}

func TestRedirection(t *testing.T) {
	for _, tt := range []struct {
		vector, id    uint8
		level, masked bool
		want          uint64
	}{
		{0x41, 0, false, false, 0x41},
		{0x41, 3, true, false, 0x0300_0000_0000_8041},
		{0xfe, 255, false, true, 0xff00_0000_0001_00fe},
	} {
		if got := Redirection(tt.vector, tt.id, tt.level, tt.masked); got != tt.want {
			t.Errorf("Redirection(%#x, %d, level %v, masked %v) = %#x; want %#x", tt.vector, tt.id, tt.level, tt.masked, got, tt.want)
		}
	}
}
