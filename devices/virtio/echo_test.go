package virtio_test

import (
	"encoding/binary"
	"log/slog"
	"sync"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

var le = binary.LittleEndian

// echo is a device that answers each request with what it was sent. It has two
// queues and a configuration space of 8 bytes, which count changes.
type echo struct {
	fail     error // from Activate
	inactive bool  // does not start workers
	holds    bool  // gives nothing back

	env     *virtio.Env
	workers []*virtio.Worker
	closed  bool

	mu     sync.Mutex
	config [8]byte
}

const echoFeature virtio.Features = 1 << 3

func (d *echo) Info() virtio.Info {
	return virtio.Info{Type: 42, Features: echoFeature, Queues: []uint16{256, 8}}
}

func (d *echo) ReadConfig(offset uint64, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	virtio.ReadConfig(d.config[:], offset, data)
}

func (d *echo) WriteConfig(uint64, []byte) {}

// change makes a new configuration.
func (d *echo) change(v uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	le.PutUint64(d.config[:], v)
	d.env.ConfigChanged()
}

func (d *echo) Activate(env *virtio.Env) error {
	d.env = env
	if d.fail != nil || d.inactive {
		return d.fail
	}
	for _, q := range env.Queues {
		if q != nil {
			chain := new(virtio.Chain)
			d.workers = append(d.workers, virtio.StartWorker(q, func() { d.serve(q, chain) }))
		}
	}
	return nil
}

func (d *echo) serve(q *virtio.Queue, c *virtio.Chain) {
	for q.Pop(c) {
		if d.holds {
			continue
		}
		n := 0
		for len(c.Readable) > 0 {
			k := c.Writable.Write(c.Readable[0])
			n += k
			if k < len(c.Readable[0]) {
				break
			}
			c.Readable = c.Readable[1:]
		}
		q.Push(c, uint32(n))
	}
	q.Notify()
}

func (d *echo) Reset() { d.Quiesce() }

func (d *echo) Quiesce() {
	for _, w := range d.workers {
		w.Stop()
	}
	d.workers = nil
}

func (d *echo) Close() error {
	d.closed = true
	return nil
}

// transports are drivers of a device on either transport, which is not set up yet.
var transports = []struct {
	name  string
	start func(testing.TB, virtio.Device, *slog.Logger) *virtiotest.Driver
}{
	{"mmio", virtiotest.NewLogged},
	{"pci", func(t testing.TB, d virtio.Device, log *slog.Logger) *virtiotest.Driver {
		driver, _, _ := virtiotest.NewPCILogged(t, d, log)
		return driver
	}},
}
