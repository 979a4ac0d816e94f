// Package net is the virtio network device: a network card. virtio §5.1.
package net

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vmm/devices"
	"vmm/devices/virtio"
)

var le = binary.LittleEndian

// Port is what a card is connected to. Its methods are called by one goroutine
// at a time.
type Port interface {
	// FDs are file descriptors that do not block, one for each pair of
	// queues. A read gives a frame behind a header, a write takes one. virtio
	// §5.1.6.
	FDs() []int
	// MTU is the largest packet, in bytes.
	MTU() int
	// SetOffload says which frames the guest takes unfinished: the flags
	// TUN_F_CSUM, TUN_F_TSO4 and so on, of <linux/if_tun.h>.
	SetOffload(flags int) error
	// SetQueues has the first n of the FDs used, and no other.
	SetQueues(n int) error
	Close() error
}

// Capture records frames, for people to look at.
type Capture interface {
	// Frame records a frame of the given pieces, without their first skip
	// bytes. It is called concurrently.
	Frame(pieces [][]byte, skip, size int)
}

// Config describes a card.
type Config struct {
	Port Port
	MAC  net.HardwareAddr
	// MTU is the largest packet, in bytes, that the guest is told of; 0 to tell it
	// nothing. Drivers that misread the configuration exist, and other monitors
	// say nothing either unless they are asked.
	MTU     int
	Capture Capture // nil for none
	Name    string  // for people
}

// Features. virtio §5.1.3.
const (
	featureChecksum      virtio.Features = 1 << 0
	featureGuestChecksum virtio.Features = 1 << 1
	featureGuestOffloads virtio.Features = 1 << 2
	featureMTU           virtio.Features = 1 << 3
	featureMAC           virtio.Features = 1 << 5
	featureGuestTSO4     virtio.Features = 1 << 7
	featureGuestTSO6     virtio.Features = 1 << 8
	featureGuestECN      virtio.Features = 1 << 9
	featureHostTSO4      virtio.Features = 1 << 11
	featureHostTSO6      virtio.Features = 1 << 12
	featureHostECN       virtio.Features = 1 << 13
	featureMergeable     virtio.Features = 1 << 15
	featureStatus        virtio.Features = 1 << 16
	featureControl       virtio.Features = 1 << 17
	featureControlRX     virtio.Features = 1 << 18
	featureMultiQueue    virtio.Features = 1 << 22
	featureSetMAC        virtio.Features = 1 << 23

	offloads = featureGuestChecksum | featureGuestTSO4 | featureGuestTSO6 | featureGuestECN
)

// Limits of an MTU, in bytes: virtio §5.1.4.1, and the largest frame with its header.
const (
	MinMTU = 68
	MaxMTU = 65535 - 14
)

const (
	queueSize   = 256
	headerSize  = 12
	statusUp    = 1 // VIRTIO_NET_S_LINK_UP
	configMAC   = 0
	configFlags = 6
)

// Device is a network card.
type Device struct {
	config Config
	info   virtio.Info
	fds    []int
	up     atomic.Bool // the cable is plugged in

	mu    sync.Mutex // guards what follows
	space [12]byte   // the configuration space
	env   *virtio.Env
	pairs int // of queues in use, as the driver has said
	// offloads are those that the driver has chosen; nil for all that it accepted.
	offloads *virtio.Features

	// From Activate to Reset:
	stop      *devices.Event
	workers   []*virtio.Worker
	receivers []*virtio.Worker // of them
}

var (
	_ virtio.Device    = (*Device)(nil)
	_ devices.Stateful = (*Device)(nil)
)

// New returns a card.
func New(c Config) (*Device, error) {
	if len(c.MAC) != 6 || c.MAC[0]&1 != 0 {
		return nil, fmt.Errorf("MAC address %v: a card's has six bytes, and is not one of a group", c.MAC)
	}
	if most := min(c.Port.MTU(), MaxMTU); c.MTU != 0 && (c.MTU < MinMTU || c.MTU > most) {
		return nil, fmt.Errorf("an MTU of %d: what the card is connected to takes %d to %d bytes", c.MTU, MinMTU, most)
	}
	d := &Device{config: c, fds: c.Port.FDs(), pairs: 1}
	d.up.Store(true)
	pairs := len(d.fds)
	d.info = virtio.Info{
		Type: virtio.TypeNet,
		Features: featureChecksum | featureGuestOffloads | featureMAC | offloads |
			featureHostTSO4 | featureHostTSO6 | featureHostECN | featureMergeable | featureStatus |
			featureControl | featureControlRX | featureSetMAC,
	}
	if pairs > 1 {
		d.info.Features |= featureMultiQueue
	}
	if c.MTU != 0 {
		d.info.Features |= featureMTU
	}
	for range 2 * pairs {
		d.info.Queues = append(d.info.Queues, queueSize)
	}
	d.info.Queues = append(d.info.Queues, 64) // the control queue
	// virtio §5.1.4.
	copy(d.space[configMAC:], c.MAC)
	le.PutUint16(d.space[configFlags:], statusUp)
	le.PutUint16(d.space[8:], uint16(pairs))
	le.PutUint16(d.space[10:], uint16(c.MTU))
	return d, nil
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info { return d.info }

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	virtio.ReadConfig(d.space[:], offset, data)
}

// WriteConfig implements virtio.Device: a driver of version 1 sets the address
// through the control queue.
func (d *Device) WriteConfig(uint64, []byte) {}

// SetLink plugs the cable in or out. The driver is told.
func (d *Device) SetLink(up bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.up.Swap(up) == up {
		return
	}
	status := uint16(0)
	if up {
		status = statusUp
	}
	le.PutUint16(d.space[configFlags:], status)
	if d.env != nil {
		d.env.ConfigChanged()
	}
}

// Activate implements virtio.Device.
func (d *Device) Activate(env *virtio.Env) error {
	stop, err := devices.NewEvent()
	if err != nil {
		return err
	}
	d.stop = stop
	d.mu.Lock()
	d.env = env
	chosen, used := env.Features, d.pairs
	if d.offloads != nil {
		chosen = *d.offloads
	}
	d.mu.Unlock()
	if err := d.setOffloads(chosen); err != nil {
		return err
	}
	// The driver asks for more than one pair through the control queue.
	if err := d.config.Port.SetQueues(used); err != nil {
		return err
	}
	pairs, control := 1, 2
	if env.Has(featureMultiQueue) {
		pairs, control = len(d.fds), 2*len(d.fds)
	}
	for i := range pairs {
		if q := env.Queues[2*i]; q != nil {
			r := &receiver{device: d, queue: q, fd: d.fds[i], mergeable: env.Has(featureMergeable)}
			d.receivers = append(d.receivers, virtio.StartLoop(q, r.loop))
		}
		if q := env.Queues[2*i+1]; q != nil {
			s := &sender{device: d, queue: q, fd: d.fds[i]}
			d.workers = append(d.workers, virtio.StartWorker(q, s.serve))
		}
	}
	d.workers = append(d.workers, d.receivers...)
	if q := env.Queues[control]; q != nil && env.Has(featureControl) {
		c := &controller{device: d, queue: q}
		d.workers = append(d.workers, virtio.StartWorker(q, c.serve))
	}
	return nil
}

// setOffloads tells the port what the driver agreed to.
func (d *Device) setOffloads(f virtio.Features) error {
	flags := 0
	for bit, flag := range map[virtio.Features]int{
		featureGuestChecksum: unix.TUN_F_CSUM, featureGuestTSO4: unix.TUN_F_TSO4,
		featureGuestTSO6: unix.TUN_F_TSO6, featureGuestECN: unix.TUN_F_TSO_ECN,
	} {
		if f&bit != 0 {
			flags |= flag
		}
	}
	return d.config.Port.SetOffload(flags)
}

// Reset implements virtio.Device.
func (d *Device) Reset() {
	d.Quiesce()
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.space[configMAC:], d.config.MAC)
	d.pairs, d.offloads = 1, nil
}

// Quiesce implements virtio.Device.
func (d *Device) Quiesce() {
	if d.stop == nil {
		return
	}
	d.mu.Lock()
	d.env = nil
	d.mu.Unlock()
	d.stop.Signal() // and stays signalled
	for _, w := range d.workers {
		w.Stop()
	}
	d.stop.Close()
	d.workers, d.receivers, d.stop = nil, nil, nil
}

// Close implements virtio.Device.
func (d *Device) Close() error { return d.config.Port.Close() }
