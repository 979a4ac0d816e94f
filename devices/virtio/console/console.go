// Package console is the virtio console: a serial line without a UART between
// the guest and the host. virtio §5.3.
package console

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"

	"vmm/devices/virtio"
)

var le = binary.LittleEndian

// Features. virtio §5.3.3.
const (
	featureSize           virtio.Features = 1 << 0
	featureEmergencyWrite virtio.Features = 1 << 2
)

// Queues. virtio §5.3.2.
const (
	queueReceive = iota // to the driver
	queueTransmit

	queueSize = 64

	maxWrite = 4096 // bytes, at a time
)

// The configuration space. virtio §5.3.4.
const (
	configColumns   = 0
	configRows      = 2
	configPorts     = 4
	configEmergency = 8
	configSize      = 12
)

// Device is a console with one port.
type Device struct {
	out   io.Writer
	ready chan struct{}

	transmitter, listener *virtio.Worker
	abandoned             atomic.Bool // nobody waits for what is being written

	mu      sync.Mutex // guards what follows
	space   [configSize]byte
	env     *virtio.Env   // nil while the device is not active
	receive *virtio.Queue // likewise
	chain   virtio.Chain
}

var _ virtio.Device = (*Device)(nil)

// New returns a console that sends to out. A Write may block; the guest waits.
func New(out io.Writer) *Device {
	d := &Device{out: out, ready: make(chan struct{}, 1)}
	le.PutUint32(d.space[configPorts:], 1)
	return d
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{
		Type:     virtio.TypeConsole,
		Features: featureSize | featureEmergencyWrite,
		Queues:   []uint16{queueReceive: queueSize, queueTransmit: queueSize},
	}
}

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	virtio.ReadConfig(d.space[:], offset, data)
}

// WriteConfig implements virtio.Device. A driver that has no queues yet, or no
// more, writes a character at a time. virtio §5.3.4.
func (d *Device) WriteConfig(offset uint64, data []byte) {
	if at := configEmergency - offset; at < uint64(len(data)) {
		_, _ = d.out.Write(data[at : at+1])
	}
}

// Resize says how large the terminal is.
func (d *Device) Resize(columns, rows uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	le.PutUint16(d.space[configColumns:], columns)
	le.PutUint16(d.space[configRows:], rows)
	if d.env != nil {
		d.env.ConfigChanged()
	}
}

// Activate implements virtio.Device.
func (d *Device) Activate(env *virtio.Env) error {
	if q := env.Queues[queueTransmit]; q != nil {
		d.transmitter = virtio.StartWorker(q, func() { d.transmit(q) })
	}
	d.mu.Lock()
	d.env, d.receive = env, env.Queues[queueReceive]
	d.mu.Unlock()
	if q := env.Queues[queueReceive]; q != nil {
		d.signalReady()
		d.listener = virtio.StartLoop(q, func() {
			for !q.Stopping() {
				q.AwaitDoorbell() // there are buffers
				d.signalReady()
			}
		})
	}
	return nil
}

// transmit sends what the guest wrote.
func (d *Device) transmit(q *virtio.Queue) {
	var c virtio.Chain
	for q.Pop(&c) {
		for _, piece := range c.Readable {
			// In parts, so that a reset does not wait for gigabytes.
			for len(piece) > 0 && !d.abandoned.Load() {
				n := min(len(piece), maxWrite)
				_, _ = d.out.Write(piece[:n]) // the guest has no use for an error
				piece = piece[n:]
			}
		}
		q.Push(&c, 0)
		q.Notify()
	}
}

// Receive takes as many bytes as there are buffers for, and says how many. When
// it is not all of them, a value on Ready tells when to try again.
func (d *Device) Receive(data []byte) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.receive
	if q == nil {
		return 0
	}
	taken := 0
	for taken < len(data) {
		if !q.Pop(&d.chain) {
			if q.EnableNotifications() {
				continue
			}
			break
		}
		n := d.chain.Writable.Write(data[taken:])
		taken += n
		q.Push(&d.chain, uint32(n))
	}
	q.Notify()
	return taken
}

// Ready has a value whenever Receive may take more than it did.
func (d *Device) Ready() <-chan struct{} { return d.ready }

func (d *Device) signalReady() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

// Reset implements virtio.Device.
func (d *Device) Reset() {
	d.abandoned.Store(true)
	d.Quiesce()
	d.abandoned.Store(false)
}

// Quiesce implements virtio.Device. What the guest has begun to write is written.
func (d *Device) Quiesce() {
	d.mu.Lock()
	d.env, d.receive = nil, nil
	d.mu.Unlock()
	for _, w := range []*virtio.Worker{d.transmitter, d.listener} {
		if w != nil {
			w.Stop()
		}
	}
	d.transmitter, d.listener = nil, nil
}

// Close implements virtio.Device.
func (d *Device) Close() error { return nil }
