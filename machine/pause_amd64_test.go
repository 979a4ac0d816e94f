package machine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// counter counts what is written to it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// A machine that is paused does nothing until it is resumed, and can be ended.
func TestPause(t *testing.T) {
	var out counter
	// mov $0x3f8, %dx; 1: out %al, %dx; jmp 1b
	m := newMachine(t, []byte{0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd}, func(c *Config) {
		c.Console, c.CPUs = &out, 4
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan Outcome, 1)
	go func() {
		o, err := m.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- o
	}()
	more := func() bool { // within a while, the guest writes
		before := out.n.Load()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if out.n.Load() > before {
				return true
			}
		}
		return false
	}
	for range 20 {
		if !more() {
			t.Fatal("the guest does not run")
		}
		m.Pause()
		m.Pause()
		before := out.n.Load()
		time.Sleep(5 * time.Millisecond)
		// A write that has left the guest is finished.
		if n := out.n.Load() - before; n > 4 {
			t.Fatalf("the guest wrote %d times in a pause", n)
		}
		if !m.Paused() {
			t.Error("not paused")
		}
		m.Resume()
	}
	m.Pause()
	cancel()
	select {
	case o := <-done:
		if o.Kind != Stopped {
			t.Errorf("outcome %v", o.Kind)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a paused machine does not end")
	}
	m.Pause() // of one that has ended: nothing to wait for
}
