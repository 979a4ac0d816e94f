// Package blk is the virtio block device: a disk. virtio §5.2.
package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/memory"
	"vmm/uring"
)

var le = binary.LittleEndian

// Image is where a disk keeps its data. Offsets and lengths are in bytes and
// multiples of SectorSize; one call is for at most maxMove bytes, or maxClear to
// discard or zero, so that a reset never waits for long. Its methods are called
// concurrently. An error is told to the driver as an I/O error, unix.EOPNOTSUPP as a
// request that the device does not know.
type Image interface {
	// Size is the size of the disk. It does not change.
	Size() int64
	// Read and Write move data at an offset. When wait is false, they fail
	// with unix.EAGAIN instead of waiting for the storage. With sync, a
	// write outlives a crash of the host.
	Read(v *memory.Vector, off int64, wait bool) error
	Write(v *memory.Vector, off int64, sync, wait bool) error
	// Flush makes what was written so far outlive a crash of the host.
	Flush() error
	// Discard drops the contents of a range, Zero makes them zero.
	Discard(off, n int64) error
	Zero(off, n int64, unmap bool) error
}

// Config describes a disk.
type Config struct {
	Image    Image
	Name     string // for people
	ReadOnly bool
	Serial   string // what the guest sees, at most SerialSize bytes
	Queues   int    // 1 to MaxQueues; 0 is 1
	// IOPS and Bandwidth limit the requests and the bytes read and written
	// in a second; 0 for no limit.
	IOPS, Bandwidth int
	Close           func() error // what to do with the image in the end
}

// Limits of a disk.
const (
	SectorSize = 512
	SerialSize = 20 // virtio §5.2.6: VIRTIO_BLK_T_GET_ID
	MaxQueues  = 64

	// A request of 1 MiB, in pages, is one chain: with 256, as other monitors have,
	// each was two.
	queueSize = 512
	// Segments of data in a request: a queue's descriptors less those of the
	// header and the status.
	maxSegments = queueSize - 2
	// Bytes in a segment. Linux makes none that is as large.
	maxSegmentSize = 4 << 20
	// Ranges in a request to discard or zero, and sectors in a range.
	maxRanges       = 64
	maxRangeSectors = 1 << 22 // 2 GiB
	// Requests that wait for the storage at the same time, by threads.
	maxThreads = 64
	// Bytes that are read or written, and discarded or zeroed, before somebody looks
	// whether the device is to stop.
	maxMove  = 1 << 20
	maxClear = 64 << 20
	// What the requests of a disk that wait for the storage may weigh together, and
	// those of one queue at the least. See request.weight.
	maxWeight   = 32 << 10
	queueWeight = 1 << 10
)

// Features. virtio §5.2.3.
const (
	featureSizeMax     virtio.Features = 1 << 1
	featureSegMax      virtio.Features = 1 << 2
	featureRO          virtio.Features = 1 << 5
	featureBlockSize   virtio.Features = 1 << 6
	featureFlush       virtio.Features = 1 << 9
	featureTopology    virtio.Features = 1 << 10
	featureMultiQueue  virtio.Features = 1 << 12
	featureDiscard     virtio.Features = 1 << 13
	featureWriteZeroes virtio.Features = 1 << 14
)

// Device is a block device.
type Device struct {
	config Config
	info   virtio.Info
	space  [60]byte // the configuration space
	iops   *limiter
	bytes  *limiter

	rings  []*uring.Ring // of the queues; those that are missing have none
	noRing error         // why they are missing

	reported sync.Map // errors of the image that the user has been told

	// From Activate to Reset:
	env     *virtio.Env
	sync    bool // each write is to outlive a crash: the driver cannot flush
	workers []*virtio.Worker
	stop    chan struct{} // closed when the workers are to end
	dropped atomic.Bool   // nobody waits for the answers to what they have begun
	waiting chan *request // for the storage; room for all that the queues hold
	threads sync.WaitGroup
	running int32 // threads
	idle    atomic.Int32
	mu      sync.Mutex // guards running
}

var _ virtio.Device = (*Device)(nil)

// New returns a disk.
func New(c Config) (*Device, error) {
	c.Queues = max(c.Queues, 1)
	switch {
	case c.Queues > MaxQueues:
		return nil, fmt.Errorf("%d queues: a disk has at most %d", c.Queues, MaxQueues)
	case len(c.Serial) > SerialSize:
		return nil, fmt.Errorf("serial number %q: a disk's has at most %d bytes", c.Serial, SerialSize)
	}
	d := &Device{config: c, iops: newLimiter(c.IOPS), bytes: newLimiter(c.Bandwidth)}
	d.info = virtio.Info{
		Type:     virtio.TypeBlock,
		Features: featureSizeMax | featureSegMax | featureBlockSize | featureFlush | featureTopology,
	}
	if c.Queues > 1 {
		d.info.Features |= featureMultiQueue
	}
	if c.ReadOnly {
		d.info.Features |= featureRO
	} else {
		d.info.Features |= featureDiscard | featureWriteZeroes
	}
	for range c.Queues {
		d.info.Queues = append(d.info.Queues, queueSize)
	}
	// virtio §5.2.4.
	le.PutUint64(d.space[0:], uint64(c.Image.Size())/SectorSize)
	le.PutUint32(d.space[8:], maxSegmentSize)
	le.PutUint32(d.space[12:], maxSegments)
	le.PutUint32(d.space[20:], SectorSize)
	d.space[24] = 3 // a physical block is 2^3 sectors: a page of the host's cache
	le.PutUint16(d.space[26:], 8)
	le.PutUint16(d.space[34:], uint16(c.Queues))
	le.PutUint32(d.space[36:], maxRangeSectors)
	le.PutUint32(d.space[40:], maxRanges)
	le.PutUint32(d.space[44:], 8) // the host frees whole pages
	le.PutUint32(d.space[48:], maxRangeSectors)
	le.PutUint32(d.space[52:], maxRanges)
	d.space[56] = 1 // zeroing may free storage
	d.addRings()
	return d, nil
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info { return d.info }

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	virtio.ReadConfig(d.space[:], offset, data)
}

// WriteConfig implements virtio.Device: the cache mode is not the driver's to
// choose.
func (d *Device) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device.
func (d *Device) Activate(env *virtio.Env) error {
	d.env = env
	d.sync = !env.Has(featureFlush)
	d.stop = make(chan struct{})
	room := 0
	for _, q := range env.Queues {
		if q != nil {
			room += q.Size()
		}
	}
	d.waiting = make(chan *request, room)
	if d.noRing != nil {
		env.Log.Info("disk "+d.config.Name+": threads will wait for the storage", "reason", d.noRing)
	}
	for i, q := range env.Queues {
		if q != nil {
			s := &server{device: d, queue: q, room: int64(max(maxWeight/len(d.info.Queues), queueWeight))}
			if i < len(d.rings) {
				s.ring = d.rings[i]
				s.ring.Watch(q.DoorbellFD())
			}
			d.workers = append(d.workers, virtio.StartLoop(q, s.loop))
		}
	}
	return nil
}

// Reset implements virtio.Device.
func (d *Device) Reset() {
	d.dropped.Store(true)
	d.Quiesce()
	d.dropped.Store(false)
}

// Quiesce implements virtio.Device.
func (d *Device) Quiesce() {
	if d.stop == nil {
		return
	}
	close(d.stop)
	for _, w := range d.workers {
		w.Stop()
	}
	close(d.waiting)
	d.threads.Wait()
	d.workers, d.stop, d.waiting, d.env, d.running = nil, nil, nil, nil, 0
	d.idle.Store(0)
}

// Close implements virtio.Device.
func (d *Device) Close() error {
	for _, r := range d.rings {
		r.Close()
	}
	d.rings = nil
	if d.config.Close == nil {
		return nil
	}
	return d.config.Close()
}

// await hands a request to a thread that may wait for the storage, and starts
// one more if all are busy.
func (d *Device) await(r *request) {
	d.waiting <- r // there is room: see Activate
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(d.idle.Load()) < len(d.waiting) && d.running < maxThreads {
		d.running++
		d.threads.Go(d.thread)
	}
}

func (d *Device) thread() {
	for {
		d.idle.Add(1)
		r, ok := <-d.waiting
		d.idle.Add(-1)
		if !ok {
			return
		}
		server := r.server
		r.finish(r.serve(true))
		server.queue.Notify()
		server.lighter()
	}
}

// report tells the user of an error of the image, each once: the guest may
// meet it a thousand times.
func (d *Device) report(what string, err error) {
	var errno unix.Errno
	errors.As(err, &errno)
	if _, known := d.reported.LoadOrStore(errno, true); !known {
		hint := ""
		if errno == unix.ENOSPC || errno == unix.EDQUOT {
			hint = "; make room on the host, then the guest can try again"
		}
		d.env.Log.Error("disk "+d.config.Name+": "+what+" failed, as the guest was told"+hint, "error", err)
	}
}
