// Package rng is the virtio entropy device: random numbers from the host.
// virtio §5.4.
package rng

import (
	"crypto/rand"

	"vmm/devices/virtio"
)

// Device is an entropy device.
type Device struct {
	worker *virtio.Worker
	chain  virtio.Chain
}

var _ virtio.Device = (*Device)(nil)

// New returns an entropy device.
func New() *Device { return &Device{} }

// queueSize is more than anybody needs, for drivers such as LK's that set a size of
// their own without a look at what the device allows.
const queueSize = 256

// maxRequest is how many bytes a request gets at the most; a request for more
// gets fewer, as the specification allows. Linux asks for 64.
const maxRequest = 64 << 10

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{Type: virtio.TypeEntropy, Queues: []uint16{queueSize}}
}

// ReadConfig implements virtio.Device: there is nothing to configure.
func (d *Device) ReadConfig(uint64, []byte) {}

// WriteConfig implements virtio.Device.
func (d *Device) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device.
func (d *Device) Activate(env *virtio.Env) error {
	if q := env.Queues[0]; q != nil {
		d.worker = virtio.StartWorker(q, func() { d.serve(q) })
	}
	return nil
}

func (d *Device) serve(q *virtio.Queue) {
	for q.Pop(&d.chain) {
		var n uint64
		for _, piece := range d.chain.Writable {
			piece = piece[:min(uint64(len(piece)), maxRequest-n)]
			_, _ = rand.Read(piece) // never fails: crypto/rand.Read
			n += uint64(len(piece))
		}
		q.Push(&d.chain, uint32(n))
		q.Notify()
	}
}

// Quiesce implements virtio.Device.
func (d *Device) Quiesce() { d.Reset() }

// Reset implements virtio.Device.
func (d *Device) Reset() {
	if d.worker != nil {
		d.worker.Stop()
		d.worker = nil
	}
}

// Close implements virtio.Device.
func (d *Device) Close() error { return nil }
