//go:build amd64

package main

import (
	"bytes"

	"vmm/devices/virtio"
)

// Shouter is a virtio device that answers each text with the same in capitals. It
// has one queue; a request is a chain of two parts, one that the device reads and
// one that it writes.
type Shouter struct {
	worker *virtio.Worker
	chain  virtio.Chain
	served int
}

var _ virtio.Device = (*Shouter)(nil)

// typeShouter is not a type that the specification knows. virtio §5.
const typeShouter virtio.Type = 0x4000

// Info implements virtio.Device.
func (d *Shouter) Info() virtio.Info {
	return virtio.Info{Type: typeShouter, Queues: []uint16{8}}
}

// ReadConfig implements virtio.Device: the configuration space holds the length of
// the longest text that it understands.
func (d *Shouter) ReadConfig(offset uint64, data []byte) {
	virtio.ReadConfig([]byte{maxText}, offset, data)
}

// maxText is in bytes.
const maxText = 64

// WriteConfig implements virtio.Device: nothing there can be written.
func (d *Shouter) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device: the driver has set the queue up. From now on
// a goroutine serves it whenever the driver rings.
func (d *Shouter) Activate(env *virtio.Env) error {
	if q := env.Queues[0]; q != nil {
		d.worker = virtio.StartWorker(q, func() { d.serve(q) })
	}
	return nil
}

// serve answers the requests that wait. What the driver has put into the ring has
// been checked by Pop: Readable and Writable are memory of the guest, and of no
// one else. How much of it there is, is for the device to look at.
func (d *Shouter) serve(q *virtio.Queue) {
	for q.Pop(&d.chain) {
		text := make([]byte, min(d.chain.Readable.Len(), maxText))
		n := d.chain.Readable.Read(text)
		answer := bytes.ToUpper(text[:n])
		written := d.chain.Writable.Write(answer)
		d.served++
		q.Push(&d.chain, uint32(written))
		q.Notify()
	}
}

// Reset implements virtio.Device.
func (d *Shouter) Reset() { d.Quiesce() }

// Quiesce implements virtio.Device: there is nothing that a pause must not forget.
func (d *Shouter) Quiesce() {
	if d.worker != nil {
		d.worker.Stop()
		d.worker = nil
	}
}

// Close implements virtio.Device.
func (d *Shouter) Close() error { return nil }
