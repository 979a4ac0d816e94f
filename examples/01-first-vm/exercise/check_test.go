//go:build amd64 && (solutions || lesson)

package exercise

import (
	"testing"

	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

func TestMultiply(t *testing.T) {
	for _, tt := range []struct {
		a, b uint64
		want string
	}{{2, 3, "6"}, {9, 1, "9"}, {0, 7, "0"}} {
		if got, err := tiny.Output(Multiply, kvm.Regs{RAX: tt.a, RBX: tt.b}); got != tt.want || err != nil {
			t.Errorf("%d times %d: the program writes %q, %v; want %q", tt.a, tt.b, got, err, tt.want)
		}
	}
}

func TestCountdown(t *testing.T) {
	if len(Countdown) > 20 {
		t.Errorf("%d bytes; want at most 20", len(Countdown))
	}
	if got, err := tiny.Output(Countdown, kvm.Regs{}); got != "54321" || err != nil {
		t.Errorf("the program writes %q, %v; want %q", got, err, "54321")
	}
}
