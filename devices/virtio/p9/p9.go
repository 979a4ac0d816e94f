// Package p9 is the virtio 9P transport: it carries the messages of a file
// server's protocol, 9P2000.L, between the guest and the server. Each chain of
// the queue is a message and room for its answer. The virtio specification
// leaves the device to the protocol's; Linux's net/9p/trans_virtio.c and QEMU
// agree on it.
package p9

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"

	"vmm/devices"
	"vmm/devices/virtio"
)

var le = binary.LittleEndian

const (
	featureTag virtio.Features = 1 << 0

	// queueSize is how many pieces a message and its answer may be in: those
	// of Linux may be in 128.
	queueSize = 128
)

// Server answers messages.
type Server interface {
	// Handle answers the message in the guest's memory in, with one that it
	// writes to out. It calls done with the size of the answer when it touches
	// neither any more, before it returns or later in another goroutine. more
	// says that other messages wait behind this one. Handle is called by one
	// goroutine.
	Handle(in, out [][]byte, more bool, done func(n int))
	// Wait waits until everything has been answered. Handle is not running.
	Wait()
	// Reset is Wait, and forgets the guest.
	Reset()
	// State is what the server knows of the guest, as plain data, and SetState has
	// another go on with it: devices.Stateful. Everything has been answered.
	State() any
	SetState(data json.RawMessage) error
	// Close lets go of the server, after Reset.
	Close() error
}

// Device is a 9P device.
type Device struct {
	tag    string
	server Server

	// From Activate to Reset.
	queue  *virtio.Queue
	worker *virtio.Worker

	mu    sync.Mutex
	spare []*request
}

var (
	_ virtio.Device    = (*Device)(nil)
	_ devices.Stateful = (*Device)(nil)
)

// State implements devices.Stateful.
func (d *Device) State() any { return d.server.State() }

// SetState implements devices.Stateful.
func (d *Device) SetState(data json.RawMessage) error { return d.server.SetState(data) }

// New returns a device whose share has a tag, by which a guest mounts it. It owns
// the server, unless there is an error.
func New(tag string, s Server) (*Device, error) {
	if len(tag) == 0 || len(tag) > 255 {
		return nil, fmt.Errorf("tag %q: it has 1 to 255 characters", tag)
	}
	return &Device{tag: tag, server: s}, nil
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{Type: virtio.Type9P, Features: featureTag, Queues: []uint16{queueSize}}
}

// ReadConfig implements virtio.Device: the tag, behind its length.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	space := le.AppendUint16(nil, uint16(len(d.tag)))
	virtio.ReadConfig(append(space, d.tag...), offset, data)
}

// WriteConfig implements virtio.Device.
func (d *Device) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device.
func (d *Device) Activate(env *virtio.Env) error {
	if d.queue = env.Queues[0]; d.queue != nil {
		d.worker = virtio.StartWorker(d.queue, d.serve)
	}
	return nil
}

// Quiesce implements virtio.Device. It waits for what the server is doing.
func (d *Device) Quiesce() {
	if d.worker != nil {
		d.worker.Stop()
		d.server.Wait()
		d.worker, d.queue, d.spare = nil, nil, nil
	}
}

// Reset implements virtio.Device.
func (d *Device) Reset() {
	d.Quiesce()
	d.server.Reset()
}

// Close implements virtio.Device.
func (d *Device) Close() error { return d.server.Close() }

// request is a chain with a message, and room for the answer.
type request struct {
	chain virtio.Chain
	done  func(n int)
}

// serve takes messages from the guest.
func (d *Device) serve() {
	for {
		r := d.request()
		if !d.queue.Pop(&r.chain) {
			d.keep(r)
			return
		}
		d.server.Handle(r.chain.Readable, r.chain.Writable, d.queue.Waiting(), r.done)
	}
}

// request returns one that nobody uses.
func (d *Device) request() *request {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := len(d.spare) - 1; last >= 0 {
		r := d.spare[last]
		d.spare = d.spare[:last]
		return r
	}
	r := new(request)
	r.done = func(n int) {
		d.queue.Push(&r.chain, uint32(n))
		d.queue.Notify()
		d.keep(r)
	}
	return r
}

func (d *Device) keep(r *request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spare = append(d.spare, r)
}
