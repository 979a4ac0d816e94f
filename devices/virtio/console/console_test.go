package console_test

import (
	"bytes"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"vmm/devices/virtio"
	"vmm/devices/virtio/console"
	"vmm/devices/virtio/virtiotest"
)

const all = ^virtio.Features(0)

// screen collects what the guest writes.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestOutput(t *testing.T) {
	var s screen
	d := virtiotest.Start(t, console.New(&s), all)
	d.Do(1, d.Out([]byte("hello, ")), d.Out([]byte("world")))
	d.Do(1, d.Out([]byte("\r\n")))
	d.SetConfig(8, []byte{'!', 0, 0, 0})
	if got := s.String(); got != "hello, world\r\n!" {
		t.Errorf("the guest wrote %q", got)
	}
}

// Input comes in order and whole, however small the driver's buffers are, and
// when it has none, waits for them.
func TestInput(t *testing.T) {
	dev := console.New(&screen{})
	if n := dev.Receive([]byte("early")); n != 0 {
		t.Errorf("%d bytes received before there is a driver", n)
	}
	d := virtiotest.Start(t, dev, all)
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rest := sent; len(rest) > 0; {
			rest = rest[dev.Receive(rest):]
			if len(rest) > 0 {
				select {
				case <-dev.Ready():
				case <-time.After(20 * time.Second):
					t.Error("not ready for more")
					return
				}
			}
		}
	}()
	var got []byte
	b := d.In(1000)
	for len(got) < len(sent) {
		n := d.Do(0, b)
		got = append(got, b.Data[:n]...)
	}
	<-done
	if !bytes.Equal(got, sent) {
		t.Error("something else was received")
	}
}

func TestResize(t *testing.T) {
	dev := console.New(&screen{})
	d := virtiotest.Start(t, dev, all)
	dev.Resize(132, 50)
	if !d.WaitInterrupt(20*time.Second) || d.Reasons()&2 == 0 {
		t.Error("the driver is not told")
	}
	if got := d.Config(0, 8); !bytes.Equal(got, []byte{132, 0, 50, 0, 1, 0, 0, 0}) {
		t.Errorf("configuration % x", got)
	}
}

func TestReset(t *testing.T) {
	dev := console.New(&screen{})
	d := virtiotest.New(t, dev)
	for range 50 {
		d.SetUp(all)
		d.Rings[0].Add(d.In(10))
		d.Do(1, d.Out([]byte("x")))
		dev.Receive([]byte("a long line, longer than the buffer"))
		d.Reset()
		if n := dev.Receive([]byte("x")); n != 0 {
			t.Error("received after a reset")
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{3, 0, 0, 1, 40, 0, 10, 0, 5, 6, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		dev := console.New(&screen{})
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // somebody types
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-dev.Ready():
					dev.Receive(make([]byte, 1000))
				}
			}
		}()
		d := virtiotest.New(t, dev)
		d.Play(script)
		close(stop)
		<-stopped
		d.SetUp(all)
		d.Do(1, d.Out([]byte("alive")))
	})
}
