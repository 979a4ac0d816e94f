package virtio

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"vmm/devices"
	"vmm/memory"
)

// Bits of the device status. virtio §2.1.
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64
	statusFailed      = 128

	// statusDriverSets are the bits that are the driver's to set.
	statusDriverSets = statusAcknowledge | statusDriver | statusDriverOK | statusFeaturesOK | statusFailed
)

// Config is what a transport connects its device to.
type Config struct {
	Name   string // for people
	Memory *memory.Guest
	// Observer, if set, is told what happens in the queues.
	Observer Observer
	// Log receives what the device and the transport have to say; what a
	// guest can cause there is not limited in number.
	Log *slog.Logger
}

// transport is what the transports have in common: the steps in which a driver
// takes a device into service, and back out of it. virtio §3.1.
//
// The device status and what can interrupt are atomic: a device's workers
// touch nothing else here, so that whoever holds the lock may wait for them.
type transport struct {
	device   Device
	name     string
	observer Observer
	info     Info
	offers   Features
	memory   *memory.Guest
	log      *slog.Logger
	// interrupts is how this transport tells the driver something.
	interrupts interface {
		// queue is the interrupt of a queue.
		queue(i int) devices.Interrupt
		// config is the one of the configuration space.
		config() devices.Interrupt
	}

	status     atomic.Uint32
	generation atomic.Uint32

	mu            sync.Mutex // guards what follows, and calls of device
	featureSelect uint32     // which word of the features is read
	acceptSelect  uint32     // and written
	accepted      Features
	queueSelect   uint32
	queues        []queueSetup
	doorbells     []*devices.Event
	active        bool
	live          []*Queue // that the device uses, while active
}

// queueSetup is what the driver has said about a queue.
type queueSetup struct {
	size              uint16
	enabled           bool
	desc, avail, used uint64
}

func (t *transport) init(d Device, c Config) error {
	t.device, t.info, t.memory, t.log = d, d.Info(), c.Memory, c.Log
	t.name, t.observer = c.Name, c.Observer
	t.offers = t.info.Features | FeatureIndirect | FeatureEventIdx | FeatureVersion1
	for range t.info.Queues {
		doorbell, err := devices.NewEvent()
		if err != nil {
			return errors.Join(err, t.Close())
		}
		t.doorbells = append(t.doorbells, doorbell)
	}
	t.forget()
	return nil
}

// forget brings what the driver has set back to what it is after a reset.
func (t *transport) forget() {
	t.featureSelect, t.acceptSelect, t.accepted, t.queueSelect = 0, 0, 0, 0
	t.queues = make([]queueSetup, len(t.info.Queues))
	for i, size := range t.info.Queues {
		t.queues[i].size = size
	}
	t.status.Store(0)
}

// Close stops the device and lets go of what is behind it. No vCPU may be
// running any more.
func (t *transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.device.Reset()
	errs := []error{t.device.Close()}
	for _, d := range t.doorbells {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// features is the selected word of the offered features.
func (t *transport) features() uint32 { return t.offers.word(t.featureSelect) }

func (f Features) word(i uint32) uint32 {
	if i > 1 {
		return 0
	}
	return uint32(f >> (32 * i))
}

// accept sets the selected word of the features that the driver accepts. Once
// both have agreed, it is too late.
func (t *transport) accept(v uint32) {
	if t.acceptSelect > 1 || t.status.Load()&statusFeaturesOK != 0 {
		return
	}
	shift := 32 * t.acceptSelect
	t.accepted = t.accepted&^(0xffff_ffff<<shift) | Features(v)<<shift
}

// selected is the selected queue, or nil where there is none.
func (t *transport) selected() *queueSetup {
	if int(t.queueSelect) < len(t.queues) {
		return &t.queues[t.queueSelect]
	}
	return nil
}

// settable is the selected queue while the driver may still set it up, or else
// nil. virtio §3.1.1: queues are set up before DRIVER_OK.
func (t *transport) settable() *queueSetup {
	if q := t.selected(); q != nil && !q.enabled && !t.active {
		return q
	}
	return nil
}

// enable puts the selected queue into service, or takes it back out as long as
// the device does not use it.
func (t *transport) enable(on bool) {
	if q := t.selected(); q != nil && !t.active {
		q.enabled = on
	}
}

// setStatus takes a step of the driver. virtio §3.1.1.
func (t *transport) setStatus(v uint32) {
	if v == 0 {
		t.reset()
		return
	}
	// Bits are only ever added; a reset takes them away.
	old := t.status.Load()
	add := v & statusDriverSets &^ old
	if add&statusFeaturesOK != 0 && (t.accepted&^t.offers != 0 || t.accepted&FeatureVersion1 == 0) {
		// Refused: the driver finds the bit missing. A driver without
		// VERSION_1 is a legacy one.
		add &^= statusFeaturesOK
	}
	if add&statusDriverOK != 0 && (old|add)&statusFeaturesOK == 0 {
		add &^= statusDriverOK
	}
	t.status.Or(add)
	if add&statusDriverOK != 0 {
		if err := t.activate(); err != nil {
			t.needReset(err)
		}
	}
}

// activate starts the device with the queues that the driver has enabled.
func (t *transport) activate() error {
	env := &Env{
		Memory:        t.memory,
		Features:      t.accepted,
		Queues:        make([]*Queue, len(t.queues)),
		ConfigChanged: t.configChanged,
		Log:           t.log,
	}
	for i, setup := range t.queues {
		if !setup.enabled {
			continue
		}
		q, err := NewQueue(t.memory, QueueConfig{
			Size: setup.size, Max: t.info.Queues[i], Desc: setup.desc, Avail: setup.avail, Used: setup.used, Features: t.accepted,
			Index: i, Observer: t.observer,
		}, t.doorbells[i], t.interrupts.queue(i), t.needReset)
		if err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		env.Queues[i] = q
	}
	t.active, t.live = true, env.Queues
	return t.device.Activate(env)
}

// reset brings the device back to where it was when the machine started.
// virtio §2.1.2, §2.4.
func (t *transport) reset() {
	t.device.Reset()
	t.active, t.live = false, nil
	t.forget()
}

// needReset tells the driver that the device cannot go on. virtio §2.1.2.
func (t *transport) needReset(err error) {
	t.log.Warn("virtio device needs a reset", "type", t.info.Type, "error", err)
	if t.status.Or(statusNeedsReset)&statusDriverOK != 0 {
		t.interrupts.config().Signal()
	}
}

func (t *transport) configChanged() {
	t.generation.Add(1)
	if t.status.Load()&statusDriverOK != 0 {
		t.interrupts.config().Signal()
	}
}

// ring signals the doorbell of a queue. KVM does it without our help where it
// was told the Doorbells.
func (t *transport) ring(queue uint32) {
	if int(queue) < len(t.doorbells) {
		t.doorbells[queue].Signal()
	}
}

// Doorbell is a write by which the driver says that a queue holds something
// new. KVM can turn it into a signal.
type Doorbell struct {
	Event  *devices.Event
	Offset uint64  // from the start of the transport's registers
	Size   int     // of the write, in bytes; 0 for any
	Match  *uint64 // the value that is written; nil for any
}
