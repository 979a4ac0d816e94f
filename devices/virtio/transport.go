package virtio

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	warned   warned
	// interrupts is how this transport tells the driver something.
	interrupts interface {
		// queue is the interrupt of a queue.
		queue(i int) devices.Interrupt
		// config is the one of the configuration space.
		config() devices.Interrupt
		// forget takes back what a reset takes back.
		forget()
	}

	status     atomic.Uint32
	generation atomic.Uint32

	mu            sync.Mutex // guards what follows, and Activate of device
	featureSelect uint32     // which word of the features is read
	acceptSelect  uint32     // and written
	accepted      Features
	queueSelect   uint32
	queues        []queueSetup
	doorbells     []*devices.Event
	active        bool
	paused        bool          // the device is quiesced while it is active
	restored      bool          // and its interrupts may have been lost: see SetState
	live          []*Queue      // that the device uses, while active
	resetting     chan struct{} // closed when the device has been reset; nil while it is not being reset
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
	t.interrupts.forget()
	t.status.Store(0)
}

// Name is the device's name, for people.
func (t *transport) Name() string { return t.name }

// Close stops the device and lets go of what is behind it. No vCPU may be
// running any more. It takes as long as the device takes to stop.
func (t *transport) Close() error {
	t.mu.Lock()
	stopped := t.reset()
	t.mu.Unlock()
	<-stopped
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
	if t.acceptSelect > 1 {
		// There are no more features than 64; drivers write zeroes beyond.
		if v != 0 {
			t.warn("the driver accepts features that were not offered; they are ignored", "word", t.acceptSelect, "bits", hex(v))
		}
		return
	}
	if t.active || t.status.Load()&statusFeaturesOK != 0 {
		if v == t.accepted.word(t.acceptSelect) {
			return
		}
		t.warn("the driver accepts features after FEATURES_OK; nothing changes", "word", t.acceptSelect, "bits", hex(v))
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
	q := t.selected()
	switch {
	case q == nil:
		t.warn("the driver sets up a queue that does not exist", "queue", t.queueSelect)
	case q.enabled || t.active:
		t.warn("the driver sets up a queue that is in use; nothing changes before a reset", "queue", t.queueSelect)
	default:
		return q
	}
	return nil
}

// enable puts the selected queue into service, or takes it back out as long as
// the device does not use it.
func (t *transport) enable(on bool) {
	switch q := t.selected(); {
	case q == nil:
		if on {
			t.warn("the driver enables a queue that does not exist", "queue", t.queueSelect)
		}
	case t.active && q.enabled != on:
		t.warn("the driver enables or disables a queue while the device is in use; nothing changes before a reset", "queue", t.queueSelect)
	case !t.active:
		q.enabled = on
	}
}

// setStatus takes a step of the driver. virtio §3.1.1. It returns what the driver
// has to wait for, with [transport.await], once the lock is free; nil for nothing.
//
// Drivers that do not take each step work too, as with QEMU: what they miss is
// done for them.
func (t *transport) setStatus(v uint32) (wait <-chan struct{}) {
	if v == 0 {
		return t.reset()
	}
	old := t.status.Load()
	if t.resetting != nil {
		t.warn("the driver goes on before its reset is complete, which a status of 0 would say; its write is ignored", "status", hex(v))
		return nil
	}
	// Bits are only ever added; a reset takes them away.
	if lost := old & statusDriverSets &^ v; lost != 0 {
		t.warn("the driver takes back bits of the device status, which only a reset does; they stay", "bits", hex(lost))
	}
	if other := v &^ (statusDriverSets | statusNeedsReset); other != 0 {
		t.warn("the driver sets bits of the device status that do not exist; they are ignored", "bits", hex(other))
	}
	add := v & statusDriverSets &^ old
	if add&(statusFeaturesOK|statusDriverOK) != 0 && old&statusFeaturesOK == 0 {
		t.agree()
		if add&statusFeaturesOK == 0 {
			t.warn("the driver starts the device without FEATURES_OK; it has what the driver accepted so far", "features", hex(t.accepted))
		}
	}
	t.status.Or(add)
	if add&statusFailed != 0 {
		t.warn("the driver has given up on the device: it set FAILED")
	}
	if add&statusDriverOK != 0 && !t.active {
		if err := t.activate(); err != nil {
			t.needReset(err)
		}
	}
	return nil
}

// agree settles the features. What the driver accepts and was not offered is
// ignored, and one that does not accept VERSION_1 gets the same device: there is no
// other. The specification would have FEATURES_OK refused, but a driver that errs
// here does not look whether it is.
func (t *transport) agree() {
	if extra := t.accepted &^ t.offers; extra != 0 {
		t.accepted &= t.offers
		t.warn("the driver accepts features that were not offered; they are ignored", "bits", hex(extra))
	}
	if t.accepted&FeatureVersion1 == 0 {
		t.warn("the driver does not accept VERSION_1; the device works as with it, and not as a legacy device", "features", hex(t.accepted))
	}
}

// activate starts the device with the queues that the driver has enabled, unless the
// machine is paused: then Resume does.
func (t *transport) activate() error {
	if err := t.makeQueues(); err != nil || t.paused {
		return err
	}
	return t.start()
}

// start has the device serve its queues.
func (t *transport) start() error {
	for _, q := range t.live {
		if q != nil {
			q.resume()
		}
	}
	return t.device.Activate(&Env{
		Memory: t.memory, Features: t.accepted, Queues: t.live, ConfigChanged: t.configChanged, Log: t.log,
	})
}

// makeQueues makes the queues that the driver has enabled. The device is active from
// then on.
func (t *transport) makeQueues() error {
	live := make([]*Queue, len(t.queues))
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
		live[i] = q
	}
	t.active, t.live = true, live
	return nil
}

// resetPatience is how long a guest's reset keeps its vCPU, for a device that does
// not stop at once. Well-behaved drivers wait for the status to become 0.
const resetPatience = 500 * time.Millisecond

// reset begins to bring the device back to where it was when the machine started.
// virtio §2.1.2, §2.4. What it returns is closed when that is done: a device may
// wait for a disk, say. Until then the device status is not 0, and nothing can be
// set. The lock is held.
func (t *transport) reset() <-chan struct{} {
	if t.resetting != nil {
		return t.resetting
	}
	done := make(chan struct{})
	if !t.active { // there is nothing to wait for
		t.device.Reset()
		t.forget()
		close(done)
		return done
	}
	t.resetting = done
	t.status.Store(statusNeedsReset)
	go func() {
		t.device.Reset()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.active, t.live, t.resetting = false, nil, nil
		t.forget()
		close(done)
	}()
	return done
}

// await waits for a reset, but not for ever: a vCPU whose device does not stop goes
// on. The lock is free.
func (t *transport) await(reset <-chan struct{}) {
	if reset == nil {
		return
	}
	timer := time.NewTimer(resetPatience)
	defer timer.Stop()
	select {
	case <-reset:
	case <-timer.C:
		t.warn("the device is slow to stop, and its reset not complete", "in_flight", t.inFlight())
	}
}

// inFlight says which queues have chains in flight, and how many.
func (t *transport) inFlight() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for i, q := range t.live {
		if q == nil {
			continue
		}
		if n := q.InFlight(); n > 0 {
			all = append(all, fmt.Sprintf("%d in queue %d", n, i))
		}
	}
	return strings.Join(all, ", ")
}

// needReset tells the driver that the device cannot go on. virtio §2.1.2.
func (t *transport) needReset(err error) {
	t.warn("the device stops until the driver resets it (NEEDS_RESET)", "error", err)
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
	if int(queue) >= len(t.doorbells) {
		t.warn("the driver rings the doorbell of a queue that does not exist", "queue", queue)
		return
	}
	t.doorbells[queue].Signal()
}

// Doorbell is a write by which the driver says that a queue holds something
// new. KVM can turn it into a signal.
type Doorbell struct {
	Event  *devices.Event
	Offset uint64  // from the start of the transport's registers
	Size   int     // of the write, in bytes; 0 for any
	Match  *uint64 // the value that is written; nil for any
}
