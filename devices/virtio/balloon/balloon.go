// Package balloon is the virtio balloon: memory that the guest lends back to the
// host. virtio §5.5.
//
// It works in three ways. The host asks for an amount, and the guest puts as
// many of its pages into the balloon. The guest reports pages as they become
// free, which takes nothing from it. And it tells, on request, how it uses its
// memory.
package balloon

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/memory"
)

var le = binary.LittleEndian

// Features. virtio §5.5.3.
const (
	featureStats        virtio.Features = 1 << 1
	featureDeflateOnOOM virtio.Features = 1 << 2
	featureReporting    virtio.Features = 1 << 5
)

// The configuration space. virtio §5.5.4.
const (
	configTarget = 0 // pages that the host wants in the balloon
	configActual = 4 // pages that are in it
	configSize   = 16
)

// PageSize is the size of the balloon's pages, in bytes, whatever those of guest
// and host are. virtio §5.5.6.
const PageSize = 4096

const queueSize = 128

// Config describes a balloon.
type Config struct {
	Size      uint64 // at first, in bytes
	Reporting bool   // have the guest report free pages
}

// Device is a balloon.
type Device struct {
	info    virtio.Info
	workers []*virtio.Worker

	mu    sync.Mutex // guards what follows
	space [configSize]byte
	env   *virtio.Env // nil while the device is not active
	stats statistics
}

var (
	_ virtio.Device    = (*Device)(nil)
	_ devices.Stateful = (*Device)(nil)
)

// New returns a balloon.
func New(c Config) *Device {
	d := &Device{info: virtio.Info{
		Type:     virtio.TypeBalloon,
		Features: featureStats | featureDeflateOnOOM,
		Queues:   []uint16{queueSize, queueSize, queueSize},
	}}
	if c.Reporting {
		d.info.Features |= featureReporting
		d.info.Queues = append(d.info.Queues, queueSize)
	}
	d.stats.fresh = make(chan struct{}, 1)
	d.SetSize(c.Size)
	return d
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info { return d.info }

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	virtio.ReadConfig(d.space[:], offset, data)
}

// WriteConfig implements virtio.Device: the driver says how many pages are in
// the balloon, at whatever width.
func (d *Device) WriteConfig(offset uint64, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, b := range data {
		if at := offset + uint64(i); at >= configActual && at < configActual+4 {
			d.space[at] = b
		}
	}
}

// SetSize asks for a number of bytes in the balloon. The guest gets there in its
// own time; when it runs out of memory it takes pages back.
func (d *Device) SetSize(bytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	le.PutUint32(d.space[configTarget:], uint32(min(bytes/PageSize, 1<<32-1)))
	if d.env != nil {
		d.env.ConfigChanged()
	}
}

// Size is the number of bytes that were asked for, and of those that the guest
// says are in the balloon.
func (d *Device) Size() (target, actual uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(le.Uint32(d.space[configTarget:])) * PageSize, uint64(le.Uint32(d.space[configActual:])) * PageSize
}

// Activate implements virtio.Device. The queues of features that the driver does
// not take are not there, and those behind them move up. virtio §5.5.2.
func (d *Device) Activate(env *virtio.Env) error {
	queues := env.Queues
	next := func() (q *virtio.Queue) {
		q, queues = queues[0], queues[1:]
		return q
	}
	start := func(q *virtio.Queue, serve func(*virtio.Chain)) {
		if q == nil {
			return
		}
		var c virtio.Chain
		d.workers = append(d.workers, virtio.StartWorker(q, func() {
			for q.Pop(&c) {
				serve(&c)
				q.Push(&c, 0)
				q.Notify()
			}
		}))
	}
	start(next(), inflater(env.Memory))
	start(next(), func(*virtio.Chain) {}) // the pages come back when they are touched
	d.mu.Lock()
	d.env = env
	d.mu.Unlock()
	if env.Has(featureStats) {
		if q := next(); q != nil {
			d.workers = append(d.workers, d.serveStats(q))
		}
	}
	if env.Has(featureReporting) {
		start(next(), reporter(env.Memory))
	}
	return nil
}

// inflater returns what takes a list of page numbers: they are in the balloon
// now.
func inflater(m *memory.Guest) func(*virtio.Chain) {
	var pages []uint32
	var number [4]byte
	return func(c *virtio.Chain) {
		pages = pages[:0]
		// Linux sends 256 at a time. Sorted, they are often neighbours.
		for len(pages) < 1<<16 && c.Readable.Read(number[:]) == len(number) {
			pages = append(pages, le.Uint32(number[:]))
		}
		slices.Sort(pages)
		for len(pages) > 0 {
			n := 1
			for n < len(pages) && pages[n] == pages[0]+uint32(n) {
				n++
			}
			// What is not RAM cannot be given back. No error to the guest:
			// the specification has none, and it hurts only itself.
			if s, err := m.Slice(uint64(pages[0])*PageSize, uint64(n)*PageSize); err == nil {
				_ = m.Discard(s)
			}
			pages = pages[n:]
		}
	}
}

// reporter returns what takes memory that the guest does not use for the moment.
// virtio §5.5.6.6.
func reporter(m *memory.Guest) func(*virtio.Chain) {
	return func(c *virtio.Chain) {
		for _, piece := range c.Writable {
			// A failure leaves the host with memory it could do without.
			_ = m.Discard(piece)
		}
	}
}

// Quiesce implements virtio.Device. The driver gets its buffer for statistics back; it
// fills it anew and returns it.
func (d *Device) Quiesce() {
	d.mu.Lock()
	if d.stats.held {
		d.stats.giveBack()
	}
	d.env, d.stats.queue = nil, nil
	d.mu.Unlock()
	for _, w := range d.workers {
		w.Stop()
	}
	d.workers = nil
}

// Reset implements virtio.Device.
func (d *Device) Reset() {
	d.mu.Lock()
	d.stats.held = false
	clear(d.space[configActual:][:4])
	d.mu.Unlock()
	d.Quiesce()
}

// state is what a balloon keeps. Sizes are in pages.
type state struct {
	Target uint32 `json:"target"`
	Actual uint32 `json:"actual"`
}

// State implements devices.Stateful.
func (d *Device) State() any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return state{le.Uint32(d.space[configTarget:]), le.Uint32(d.space[configActual:])}
}

// SetState implements devices.Stateful.
func (d *Device) SetState(data json.RawMessage) error {
	var s state
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	le.PutUint32(d.space[configTarget:], s.Target)
	le.PutUint32(d.space[configActual:], s.Actual)
	return nil
}

// Close implements virtio.Device.
func (d *Device) Close() error { return nil }

// Stats is how a guest says that it uses its memory. A number that it does not
// tell is missing.
type Stats map[string]uint64

// statNames are the statistics by tag. virtio §5.5.6.3.
var statNames = []string{
	"swap_in", "swap_out", "major_faults", "minor_faults", "free_memory", "total_memory",
	"available_memory", "disk_caches", "hugetlb_allocations", "hugetlb_failures",
}

// statistics is the state of the statistics queue: the driver leaves a buffer
// there, and fills it anew when it gets it back.
type statistics struct {
	queue *virtio.Queue
	held  bool // chain is the driver's buffer
	chain virtio.Chain
	last  Stats
	fresh chan struct{} // has a value when last was set
}

func (d *Device) serveStats(q *virtio.Queue) *virtio.Worker {
	d.mu.Lock()
	d.stats.queue = q
	d.mu.Unlock()
	return virtio.StartWorker(q, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for {
			var c virtio.Chain
			if d.stats.queue != q || !q.Pop(&c) {
				return
			}
			if d.stats.held { // the driver has only one, if it is sane
				q.Push(&c, 0)
				q.Notify()
				continue
			}
			d.stats.held, d.stats.chain = true, c
			d.stats.last = readStats(&c.Readable)
			select {
			case d.stats.fresh <- struct{}{}:
			default:
			}
		}
	})
}

// giveBack returns the driver's buffer, to be filled anew.
func (s *statistics) giveBack() {
	s.held = false
	s.queue.Push(&s.chain, 0)
	s.queue.Notify()
}

func readStats(b *virtio.Buffers) Stats {
	s := Stats{}
	var entry [10]byte
	// A hostile guest's buffer may be long, but not its list of names.
	for range 4 * len(statNames) {
		if b.Read(entry[:]) < len(entry) {
			break
		}
		if tag := int(le.Uint16(entry[:])); tag < len(statNames) {
			s[statNames[tag]] = le.Uint64(entry[2:])
		}
	}
	return s
}

// Stats asks the guest for its statistics, and returns what it says within the
// timeout; nil when it says nothing.
func (d *Device) Stats(timeout time.Duration) Stats {
	d.mu.Lock()
	if d.stats.queue == nil || !d.stats.held {
		d.mu.Unlock()
		return nil
	}
	select {
	case <-d.stats.fresh: // of an earlier time
	default:
	}
	d.stats.giveBack()
	d.mu.Unlock()
	select {
	case <-d.stats.fresh:
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.stats.last
	case <-time.After(timeout):
		return nil
	}
}
