package machine

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vmm/devices/virtio"
)

// card is a virtio device that notes whether it is paused, and whose pause waits.
type card struct {
	name   string
	free   chan struct{}
	mu     sync.Mutex
	paused bool
}

func (c *card) Name() string                   { return c.name }
func (c *card) State() virtio.State            { return virtio.State{Name: c.name} }
func (c *card) Rings(int) (virtio.Rings, bool) { return virtio.Rings{}, false }

func (c *card) Save() (s virtio.TransportState, err error) { return s, nil }
func (c *card) Restore(virtio.TransportState) error        { return nil }

func (c *card) set(paused bool) {
	<-c.free
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = paused
}

func (c *card) Pause()  { c.set(true) }
func (c *card) Resume() { c.set(false) }

func (c *card) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

// A pause stops devices, not only processors; who merely looks at a processor does
// not. A device that cannot stop is named, and waited for no longer than a while.
func TestPauseStopsDevices(t *testing.T) {
	open := make(chan struct{})
	close(open)
	quick, stuck := &card{name: "virtio-net0", free: open}, &card{name: "virtio-blk0", free: open}
	var log bytes.Buffer
	m := &Machine{log: slog.New(slog.NewTextHandler(&log, nil)), transports: []transport{quick, stuck}}
	m.wake.L = new(sync.Mutex)

	m.hold(toLook)
	if quick.isPaused() {
		t.Error("a look at the machine pauses its devices")
	}
	m.letGo(toLook)
	for range 3 {
		m.Pause()
		m.Pause()
		if !quick.isPaused() || !stuck.isPaused() {
			t.Error("a device is at work in a pause")
		}
		m.Resume()
		if quick.isPaused() || stuck.isPaused() {
			t.Error("a device rests after the pause")
		}
	}
	stuck.free = make(chan struct{})
	start := time.Now()
	m.Pause()
	if took := time.Since(start); took > pausePatience+10*time.Second {
		t.Errorf("a device that does not stop kept the pause for %v", took)
	}
	if text := log.String(); !strings.Contains(text, "virtio-blk0 did not stop") || strings.Contains(text, "virtio-net0") {
		t.Errorf("the log says %q", text)
	}
	close(stuck.free)
}
