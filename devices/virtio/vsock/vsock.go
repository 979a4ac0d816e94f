// Package vsock is the virtio socket device: connections between programs in the
// guest and programs on the host, without a network. virtio §5.10.
//
// On the host they are unix sockets, as in Firecracker. A program there reaches
// port 52 of the guest by connecting to the device's path and sending the line
// "CONNECT 52"; the answer is "OK" and a number when a program in the guest has
// accepted, and from then on the connection is the program's. A program in the
// guest that connects to port 52 of the host (CID 2) reaches the one that listens
// at the path with "_52" added.
//
// Such a program takes as many connections at once as the length that it gave to
// listen(2), and those that it accepts meanwhile. A burst of more waits in the
// device, which tries again for 10 seconds and then resets what is left. (Linux's
// own connect to a socket of AF_VSOCK gives up after 2 seconds, unless the guest's
// program sets SO_VM_SOCKETS_CONNECT_TIMEOUT.) Of more than 1024 connections at
// once, the others are reset.
package vsock

import (
	"encoding/json"
	"fmt"
	"net"
	"sync"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/socket"
)

// Context identifiers. virtio §5.10.4.
const (
	hostCID = 2
	// MinCID and MaxCID are the first and the last that a guest can have.
	MinCID = 3
	MaxCID = 1<<32 - 2
)

// Queues. virtio §5.10.2.
const (
	queueReceive = iota // to the driver
	queueTransmit
	queueEvent

	queueSize = 128
)

// Config describes a device.
type Config struct {
	CID  uint32 // of the guest
	Path string // of the unix socket
	// Dial connects to the program that listens at a port of the host, without
	// waiting; nil to connect to the unix socket at Path with "_" and the port.
	Dial func(port uint32) (*net.UnixConn, error) `json:"-"`
}

// Device is a socket device.
type Device struct {
	config   Config
	listener *socket.Listener
	accepts  sync.WaitGroup

	mu      sync.Mutex
	session *session // nil while the device is not active
	moved   bool     // the guest had connections through another device
}

var (
	_ virtio.Device    = (*Device)(nil)
	_ devices.Stateful = (*Device)(nil)
)

// New returns a device and begins to listen at its path.
func New(c Config) (*Device, error) {
	if c.CID < MinCID || c.CID > MaxCID {
		return nil, fmt.Errorf("CID %d: a guest's is between %d and %d", c.CID, MinCID, uint32(MaxCID))
	}
	listener, err := socket.Listen(c.Path)
	if err != nil {
		return nil, err
	}
	d := &Device{config: c, listener: listener}
	d.accepts.Go(d.accept)
	return d, nil
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{
		Type:   virtio.TypeVsock,
		Queues: []uint16{queueReceive: queueSize, queueTransmit: queueSize, queueEvent: 8},
	}
}

// ReadConfig implements virtio.Device: the configuration is the guest's CID.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	virtio.ReadConfig(le.AppendUint64(nil, uint64(d.config.CID)), offset, data)
}

// WriteConfig implements virtio.Device.
func (d *Device) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device. Connections outlive Quiesce. Those of another
// device, whose state this one has got, do not: the guest is told.
func (d *Device) Activate(env *virtio.Env) error {
	rx, tx := env.Queues[queueReceive], env.Queues[queueTransmit]
	if rx == nil || tx == nil {
		return nil // a device that can do nothing
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != nil {
		d.session.resume()
		return nil
	}
	if d.moved {
		d.moved = false
		resetTransport(env.Queues[queueEvent])
	}
	d.session = newSession(d.config, rx, tx)
	return nil
}

// resetTransport tells the guest that all connections are gone, and that its CID may
// have changed. virtio §5.10.6.7. Linux always has a buffer for it; without one, a
// guest learns of each connection when it uses it.
func resetTransport(events *virtio.Queue) {
	var c virtio.Chain
	if events == nil || !events.Pop(&c) {
		return
	}
	const transportReset = 0
	n := c.Writable.Write(le.AppendUint32(nil, transportReset))
	events.Push(&c, uint32(n))
	events.Notify()
}

// Quiesce implements virtio.Device.
func (d *Device) Quiesce() {
	if s := d.current(); s != nil {
		s.pause()
	}
}

// state is what the device keeps: nothing, for connections do not outlive it.
type state struct{}

// State implements devices.Stateful.
func (d *Device) State() any { return state{} }

// SetState implements devices.Stateful.
func (d *Device) SetState(data json.RawMessage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moved = true
	return devices.Decode(data, &state{})
}

// current is the session, or nil.
func (d *Device) current() *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.session
}

// Reset implements virtio.Device.
func (d *Device) Reset() {
	d.mu.Lock()
	s := d.session
	d.session, d.moved = nil, false
	d.mu.Unlock()
	if s != nil {
		s.close()
	}
}

// Close implements virtio.Device.
func (d *Device) Close() error {
	err := d.listener.Close() // and removes the socket
	d.accepts.Wait()
	return err
}
