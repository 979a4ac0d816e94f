//go:build amd64 && solutions

package exercise

import (
	"encoding/binary"

	"vmm/devices/virtio"
)

// Adder is a virtio device that adds.
type Adder struct {
	worker *virtio.Worker
	chain  virtio.Chain
}

var _ virtio.Device = (*Adder)(nil)

// NewAdder returns an adder.
func NewAdder() virtio.Device { return &Adder{} }

// Maximum is how many numbers a request may have.
const Maximum = 16

// Info implements virtio.Device.
func (a *Adder) Info() virtio.Info { return virtio.Info{Type: 0x4001, Queues: []uint16{8}} }

// ReadConfig implements virtio.Device.
func (a *Adder) ReadConfig(offset uint64, data []byte) {
	virtio.ReadConfig(binary.LittleEndian.AppendUint64(nil, Maximum), offset, data)
}

// WriteConfig implements virtio.Device.
func (a *Adder) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device.
func (a *Adder) Activate(env *virtio.Env) error {
	if q := env.Queues[0]; q != nil {
		a.worker = virtio.StartWorker(q, func() { a.serve(q) })
	}
	return nil
}

func (a *Adder) serve(q *virtio.Queue) {
	for q.Pop(&a.chain) {
		var sum uint64
		for range Maximum {
			var number [4]byte
			if a.chain.Readable.Read(number[:]) < len(number) {
				break
			}
			sum += uint64(binary.LittleEndian.Uint32(number[:]))
		}
		n := 0
		if a.chain.Writable.Len() >= 8 {
			n = a.chain.Writable.Write(binary.LittleEndian.AppendUint64(nil, sum))
		}
		q.Push(&a.chain, uint32(n))
		q.Notify()
	}
}

// Reset implements virtio.Device.
func (a *Adder) Reset() { a.Quiesce() }

// Quiesce implements virtio.Device.
func (a *Adder) Quiesce() {
	if a.worker != nil {
		a.worker.Stop()
		a.worker = nil
	}
}

// Close implements virtio.Device.
func (a *Adder) Close() error { return nil }
