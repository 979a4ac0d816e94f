package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vmm/devices"
	"vmm/memory"
)

var le = binary.LittleEndian

// MaxQueueSize is the largest size of a queue, in descriptors. virtio §2.7.
const MaxQueueSize = 32768

// Queue is the device's side of a split virtqueue. virtio §2.7.
//
// Taking chains (Pop, NotifySoon, DisableNotifications, EnableNotifications, Waiting, Yield) is for one goroutine,
// the device's worker; giving them back (Push, PushAll, Notify) for any. What the
// guest wrote into the rings is copied once and then checked; a ring that makes
// no sense breaks the queue, which then stays silent until the device is reset.
//
// A chain is in flight from Pop to Push. No head is in flight twice, so that
// never more chains are than the queue has descriptors: a device may keep a
// place for each.
type Queue struct {
	memory   *memory.Guest
	size     uint16
	longest  int  // descriptors of a chain, at the most
	events   bool // FeatureEventIdx
	indirect bool // FeatureIndirect

	desc      []byte // size descriptors of 16 bytes
	availRing []byte // size heads of chains, from the driver
	usedRing  []byte // size elements of 8 bytes, to the driver

	availFlags memory.Half
	availIdx   memory.Half
	usedEvent  memory.Half    // the driver wants an interrupt at this index
	used       *atomic.Uint32 // flags and, in the upper half, idx
	availEvent memory.Half    // the device wants a doorbell at this index

	next     uint16   // index of the next chain to take
	returned []uint16 // heads of chains that come before that: see Unpop
	quiet    uint64   // bytes since NotifySoon last notified
	broken   bool
	waited   time.Time   // when its worker last called Yield
	yielded  time.Time   // when it last did
	stopping atomic.Bool // its worker is to end

	// inFlight has an entry for each descriptor: it is the head of a chain that
	// the device has and has not given back.
	inFlight []atomic.Bool

	mu       sync.Mutex // guards what follows
	pushed   uint16     // index of the next used element
	notified uint16     // pushed, at the last look whether to interrupt
	silent   bool       // doorbells are switched off

	doorbell  *devices.Event
	interrupt devices.Interrupt
	needReset func(error)

	index    int
	observer Observer // nil for none
}

// Flags of the rings. virtio §2.7.6, §2.7.8.
const (
	availNoInterrupt = 1
	usedNoNotify     = 1
)

// descriptor is an entry of a descriptor table. virtio §2.7.5.
type descriptor struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

const descriptorSize = 16

// Flags of a descriptor.
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
)

// QueueConfig is how the driver has set up a queue. The addresses are
// guest-physical.
type QueueConfig struct {
	Size uint16
	// Max is the largest size that the device has for it; 0 is Size.
	Max               uint16
	Desc, Avail, Used uint64
	Features          Features
	// Index is the queue's number, which Observer, if set, is told.
	Index    int
	Observer Observer
}

// NewQueue returns the queue that the driver has set up, in its initial state.
// doorbell is what the driver rings, interrupt what wakes it, and needReset is
// called once if the queue breaks. virtio §2.7.
func NewQueue(m *memory.Guest, c QueueConfig, doorbell *devices.Event, interrupt devices.Interrupt, needReset func(error)) (*Queue, error) {
	n, most := uint64(c.Size), max(c.Max, c.Size)
	if c.Max != 0 {
		most = c.Max
	}
	if n == 0 || n > MaxQueueSize || n > uint64(most) || n&(n-1) != 0 {
		return nil, fmt.Errorf("virtqueue: a size of %d, which must be a power of 2 up to %d", n, min(most, MaxQueueSize))
	}
	q := &Queue{
		memory: m, size: c.Size, longest: int(most), inFlight: make([]atomic.Bool, n),
		events: c.Features&FeatureEventIdx != 0, indirect: c.Features&FeatureIndirect != 0,
		doorbell: doorbell, interrupt: interrupt, needReset: needReset, index: c.Index, observer: c.Observer,
	}
	var err error
	window := func(part string, addr, align, size uint64) []byte {
		if err == nil && addr%align != 0 {
			err = fmt.Errorf("virtqueue: %s: %#x is not a multiple of %d", part, addr, align)
		}
		if err != nil {
			return nil
		}
		var s []byte
		if s, err = m.Slice(addr, size); err != nil {
			err = fmt.Errorf("virtqueue: %s: %w", part, err)
		}
		return s
	}
	half := func(addr uint64) memory.Half {
		var h memory.Half
		if err == nil {
			h, err = m.Half(addr)
		}
		return h
	}
	// The event index at the end of each ring is always there. virtio §2.7:
	// the alignment and size of the three parts.
	q.desc = window("descriptor table", c.Desc, 16, descriptorSize*n)
	avail := window("available ring", c.Avail, 2, 6+2*n)
	used := window("used ring", c.Used, 4, 6+8*n)
	q.availFlags = half(c.Avail)
	q.availIdx = half(c.Avail + 2)
	q.usedEvent = half(c.Avail + 4 + 2*n)
	q.availEvent = half(c.Used + 4 + 8*n)
	if err != nil {
		return nil, err
	}
	q.availRing = avail[4 : 4+2*n]
	q.usedRing = used[4 : 4+8*n]
	q.used, err = m.Word(c.Used)
	return q, err
}

// Size is the queue's size, in descriptors.
func (q *Queue) Size() int { return int(q.size) }

// InFlight is the number of chains that the device has and has not given back.
func (q *Queue) InFlight() int {
	n := 0
	for i := range q.inFlight {
		if q.inFlight[i].Load() {
			n++
		}
	}
	return n
}

// AwaitDoorbell waits until the driver has made chains available and said so, or
// the worker is to end.
func (q *Queue) AwaitDoorbell() {
	q.doorbell.Wait()
	if q.observer != nil && !q.Stopping() {
		q.observer.Rung(q.index)
	}
}

// DoorbellFD is the file descriptor of the doorbell, an eventfd, for a worker that
// waits for more than that. It is read before the queue is looked at.
func (q *Queue) DoorbellFD() int { return q.doorbell.FD() }

// Stopping reports whether the queue's worker is to end.
func (q *Queue) Stopping() bool { return q.stopping.Load() }

// Errors say what is wrong with a ring. It is made before it is needed: a
// hostile guest costs no memory.
var (
	errIndex    = errors.New("virtqueue: more chains available than the queue has room for")
	errHead     = errors.New("virtqueue: no such descriptor")
	errLong     = errors.New("virtqueue: a chain longer than the queue")
	errOrder    = errors.New("virtqueue: a readable descriptor after a writable one")
	errIndirect = errors.New("virtqueue: an indirect descriptor out of place")
	errMemory   = errors.New("virtqueue: a buffer that is not RAM")
	errInFlight = errors.New("virtqueue: a chain made available again before the device gave it back")
)

// Pop takes the next chain of descriptors that the driver made available. It
// returns false when there is none, when the queue is broken, and when its
// worker is to stop: a driver that makes chains available faster than the
// device serves them does not keep it from that.
func (q *Queue) Pop(c *Chain) bool {
	if q.broken || q.stopping.Load() {
		return false
	}
	if len(q.returned) > 0 {
		return q.popReturned(c)
	}
	// The atomic load orders the reads of the ring and of the descriptors
	// after that of the index. virtio §2.7.13.
	switch waiting := q.availIdx.Load() - q.next; {
	case waiting == 0:
		return false
	case waiting > q.size:
		return q.fail(errIndex)
	}
	head := le.Uint16(q.availRing[2*(q.next&(q.size-1)):])
	if err := q.collect(c, head); err != nil {
		return q.fail(err)
	}
	if q.inFlight[head].Swap(true) {
		return q.fail(errInFlight)
	}
	q.next++
	if q.observer != nil {
		q.observer.Popped(q.index, c)
	}
	return true
}

// fail breaks the queue. virtio §2.1.1: a device that cannot go on asks for a
// reset.
func (q *Queue) fail(err error) bool {
	q.broken = true
	q.needReset(err)
	return false
}

// collect follows the chain from head on: through the descriptor table and, if
// the last descriptor there says so, through an indirect table.
func (q *Queue) collect(c *Chain, head uint16) error {
	c.reset(head)
	last, err := q.follow(c, q.desc, head, int(q.size), q.indirect)
	if err != nil || last.flags&descIndirect == 0 {
		return err
	}
	// virtio §2.7.5.3.1.
	if last.len == 0 || last.len%descriptorSize != 0 {
		return errIndirect
	}
	table, err := q.memory.Slice(last.addr, uint64(last.len))
	if err != nil {
		return errMemory
	}
	// A driver that made the queue smaller than it could be goes on making
	// requests as long as the device said that they may be.
	_, err = q.follow(c, table, 0, q.longest, false)
	return err
}

// follow collects the buffers of a chain in one table, from index on. It returns
// the chain's last descriptor in that table, which is no buffer where it leads to an
// indirect table; only the descriptor table of a driver that accepted
// FeatureIndirect has such. A chain of more than most descriptors must be a loop.
func (q *Queue) follow(c *Chain, table []byte, index uint16, most int, indirect bool) (descriptor, error) {
	for c.count < most {
		if int(index) >= len(table)/descriptorSize {
			return descriptor{}, errHead
		}
		d := load(table, index)
		if d.flags&descIndirect != 0 {
			if !indirect || d.flags&descNext != 0 {
				return d, errIndirect
			}
			return d, nil
		}
		if err := c.add(q.memory, d); err != nil {
			return d, err
		}
		if d.flags&descNext == 0 {
			return d, nil
		}
		index = d.next
	}
	return descriptor{}, errLong
}

// load copies descriptor i out of a table.
func load(table []byte, i uint16) descriptor {
	b := table[descriptorSize*int(i):][:descriptorSize]
	return descriptor{le.Uint64(b), le.Uint32(b[8:]), le.Uint16(b[12:]), le.Uint16(b[14:])}
}

// Push gives a chain back to the driver, with the number of bytes that were
// written to it from its start. A chain that is not in flight is not the driver's
// to have, and nothing happens.
func (q *Queue) Push(c *Chain, written uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.put(c.head, written)
	q.publish()
}

// PushAll gives back several chains at once, with n bytes written to them from
// the start of the first on: the driver sees all of them or none. It is for a
// packet that spans buffers.
func (q *Queue) PushAll(chains []*Chain, n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range chains {
		part := min(n, c.Writable.Len())
		q.put(c.head, uint32(part))
		n -= part
	}
	q.publish()
}

func (q *Queue) put(head uint16, written uint32) {
	// Before publish: from then on the driver may make it available again.
	if !q.inFlight[head].Swap(false) {
		return
	}
	element := q.usedRing[8*int(q.pushed&(q.size-1)):][:8]
	le.PutUint32(element, uint32(head))
	le.PutUint32(element[4:], written)
	q.pushed++
	if q.observer != nil {
		q.observer.Pushed(q.index, head, written)
	}
}

// publish shows the driver what has been put. The atomic store orders the
// elements, and the data in the buffers, before the index. virtio §2.7.8.2.
func (q *Queue) publish() {
	var flags uint32
	if q.silent {
		flags = usedNoNotify
	}
	q.used.Store(flags | uint32(q.pushed)<<16)
}

// Notify interrupts the guest if chains were pushed and the driver wants to
// know. virtio §2.7.7.
func (q *Queue) Notify() {
	q.mu.Lock()
	defer q.mu.Unlock()
	old, now := q.notified, q.pushed
	if old == now {
		return
	}
	q.notified = now
	// publish stored the index before we read here what the driver wants.
	// Both are sequentially consistent, which keeps the processor from doing
	// it the other way round: the driver writes what it wants and then looks
	// at the index, so one of the two sees the other.
	if q.events {
		if now-q.usedEvent.Load()-1 < now-old {
			q.interrupt.Signal()
		}
		return
	}
	if q.availFlags.Load()&availNoInterrupt == 0 {
		q.interrupt.Signal()
	}
}

// quietBytes is how much NotifySoon lets pass: what takes about as long to copy
// as an interrupt takes.
const quietBytes = 64 << 10

// NotifySoon is Notify, put off until n and those before amount to a good deal
// of data: one interrupt for many small requests, and with large ones the driver
// goes on with the first while the device copies the next. The worker calls
// Notify when it has no more to do.
func (q *Queue) NotifySoon(n uint64) {
	if q.quiet += n; q.quiet >= quietBytes {
		q.quiet = 0
		q.Notify()
	}
}

// DisableNotifications tells the driver that it need not ring the doorbell while the
// device polls the ring. virtio §2.7.10.
func (q *Queue) DisableNotifications() {
	// With event indices the last one stays in place: it asks for no doorbell
	// until the ring comes around to it.
	if !q.events {
		q.setSilent(true)
	}
}

// EnableNotifications asks for the doorbell again. It returns true when a chain has
// come in the meantime, for which the driver may not ring it.
func (q *Queue) EnableNotifications() bool {
	if q.broken {
		return false
	}
	if q.events {
		q.availEvent.Store(q.next)
	} else {
		q.setSilent(false)
	}
	// The store before and this load are sequentially consistent; the driver
	// stores the index and then looks whether notifications are enabled.
	return q.Waiting()
}

func (q *Queue) setSilent(silent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.silent = silent
	q.publish()
}

// Waiting reports whether a chain may be there to be popped.
func (q *Queue) Waiting() bool {
	return !q.broken && (len(q.returned) > 0 || q.availIdx.Load() != q.next)
}
