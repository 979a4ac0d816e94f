//go:build amd64 && (solutions || lesson)

package exercise

import (
	"testing"
	"time"

	"vmm/examples/internal/tiny"
)

func TestStartUp(t *testing.T) {
	for _, tt := range []struct {
		id              uint8
		addr, high, low uint32
	}{{1, 0x8000, 1 << 24, 0x4608}, {255, 0x9_f000, 255 << 24, 0x469f}} {
		if high, low := StartUp(tt.id, tt.addr); high != tt.high || low != tt.low {
			t.Errorf("StartUp(%d, %#x) = %#x, %#x; want %#x, %#x", tt.id, tt.addr, high, low, tt.high, tt.low)
		}
	}
}

func TestRunFor(t *testing.T) {
	for name, program := range map[string][]byte{
		"a guest that spins":               {0xeb, 0xfe},
		"a guest that comes back for ever": {0xe6, 0x80, 0xeb, 0xfc},
	} {
		m, err := tiny.New(program, tiny.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- RunFor(m.CPUs[0], 100*time.Millisecond) }()
		select {
		case err := <-done:
			if took := time.Since(start); err != nil || took < 100*time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: RunFor does not return", name)
		}
	}
}
