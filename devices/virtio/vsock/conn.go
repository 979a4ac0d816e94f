package vsock

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/memory"
)

// bufferSize is how many bytes of a connection wait in the device for a program
// of the host that is slow to read, at the most. The guest is told. virtio
// §5.10.6.3.
const bufferSize = 256 << 10

var errFull = errors.New("vsock: the programs of the host are too slow to read")

// conn is a connection between a program of the guest and one of the host. Two
// goroutines carry it: pull from host to guest, and push from guest to host, for
// what the host did not take at once.
type conn struct {
	session *session
	id      ports

	gone atomic.Bool // ended, for those who don't hold the lock
	refs int         // the session's, and a goroutine's each; guarded by the session

	mu      sync.Mutex // guards what follows
	change  sync.Cond  // of any of it
	unix    *net.UnixConn
	raw     syscall.RawConn
	waiting bool // for the guest to accept
	open    bool // the goroutines are there
	ended   bool // the connection is not the session's any more

	// From guest to host. Numbers of bytes wrap around.
	buffer    []byte // what the host has not taken
	received  uint32 // from the guest, ever
	taken     uint32 // of those, by the host
	announced uint32 // of those, what the guest has been told
	guestDone bool   // the guest sends no more
	vector    memory.Vector

	// From host to guest.
	room      uint32 // at the guest, in all
	forwarded uint32 // what the guest is done with, ever
	sent      uint32 // to the guest, ever
	guestDeaf bool   // the guest receives no more
}

func newConn(s *session, id ports) *conn {
	c := &conn{session: s, id: id}
	c.change.L = &c.mu
	return c
}

// attach gives the connection its end on the host. It returns false when the
// connection has ended in the meantime.
func (c *conn) attach(u *net.UnixConn) bool {
	raw, err := u.SyscallConn()
	if err != nil || c.ended {
		u.Close()
		return false
	}
	c.unix, c.raw = u, raw
	return true
}

// accepted opens a connection that the guest asked for.
func (c *conn) accepted(u *net.UnixConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attach(u) {
		c.start(opResponse)
	}
}

// ask asks the guest to accept a connection of the host's.
func (c *conn) ask(u *net.UnixConn) {
	c.mu.Lock()
	c.waiting = c.attach(u)
	ok := c.waiting
	c.mu.Unlock()
	if !ok {
		return
	}
	c.session.send(reply{conn: c, header: header{op: opRequest}})
	time.AfterFunc(greetingTimeout, func() {
		c.mu.Lock()
		silent := c.waiting
		c.mu.Unlock()
		if silent {
			c.abort(true)
		}
	})
}

// start begins to carry, with a packet to the guest where one is due.
func (c *conn) start(first operation) {
	c.open = true
	c.session.run(c, func() { c.pull(first) })
	c.session.run(c, c.push)
}

// abort ends the connection at once, and tells the guest or not.
func (c *conn) abort(tell bool) {
	if c.end() && tell {
		c.session.send(reply{conn: c, header: header{op: opReset}})
	}
}

// end lets go of the connection. It returns false when that has been done.
func (c *conn) end() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended, c.waiting = true, false
	c.gone.Store(true)
	c.session.buffered.Add(-int64(len(c.buffer)))
	c.buffer = nil
	if c.unix != nil {
		c.unix.Close() // wakes the goroutines
	}
	c.change.Broadcast()
	c.session.inbox.wake()
	c.session.remove(c)
	return true
}

// handle acts on a packet of the guest's.
func (c *conn) handle(h header, payload virtio.Buffers) {
	answer, ok := c.act(h, payload)
	if !ok {
		c.abort(true)
	} else if answer != 0 {
		c.session.send(reply{conn: c, header: header{op: answer}})
	}
}

// act is handle with the lock held. It returns the packet to be sent, 0 for
// none, and false when the guest has broken the rules.
func (c *conn) act(h header, payload virtio.Buffers) (answer operation, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer(h)
	switch h.op {
	case opResponse:
		if !c.waiting {
			return 0, false
		}
		c.waiting = false
		// The first bytes in a unix socket: there is room for them.
		_, err := fmt.Fprintf(c.unix, "OK %d\n", c.id.host)
		c.start(0)
		return 0, err == nil
	case opData:
		if !c.open || c.ended || c.guestDone || payload.Len() < uint64(h.len) || h.len > bufferSize-(c.received-c.taken) {
			return 0, false
		}
		if err := c.receive(payload, h.len); err != nil {
			return 0, false
		}
		return c.credit(), true
	case opShutdown:
		c.guestDone = c.guestDone || h.flags&noSend != 0
		c.guestDeaf = c.guestDeaf || h.flags&noReceive != 0
		if !c.open { // neither of the two has begun
			return 0, false
		}
		return 0, true
	case opCreditUpdate:
		return 0, true
	case opCreditRequest:
		return opCreditUpdate, true
	}
	return 0, false
}

// peer notes what a packet says about the room at the guest.
func (c *conn) peer(h header) {
	c.room, c.forwarded = h.bufAlloc, h.fwdCnt
	c.change.Broadcast()
}

// receive takes n bytes from the guest: to the host, as far as it takes them,
// and the rest to the buffer.
func (c *conn) receive(payload virtio.Buffers, n uint32) error {
	c.received += n
	c.vector.Set(payload)
	c.vector.Truncate(uint64(n))
	if c.received-n == c.taken { // nothing waits
		var err error
		if e := c.raw.Control(func(fd uintptr) {
			var done int
			if done, err = c.vector.Writev(int(fd)); err == nil {
				c.taken += uint32(done)
				c.vector.Skip(done)
			}
		}); e != nil {
			return e
		}
		if err != nil && err != unix.EAGAIN {
			return err
		}
	}
	rest := c.vector.Len()
	if c.session.buffered.Add(int64(rest)) > maxBuffered {
		c.session.buffered.Add(-int64(rest))
		return errFull
	}
	old := len(c.buffer)
	c.buffer = append(c.buffer, make([]byte, rest)...)
	c.vector.CopyTo(c.buffer[old:])
	c.change.Broadcast()
	return nil
}

// credit is the packet that tells the guest of room at the host, when it is
// time.
func (c *conn) credit() operation {
	if c.taken-c.announced < bufferSize/4 {
		return 0
	}
	return opCreditUpdate
}

// push takes what waits in the buffer to the host, and ends the connection when
// the guest has.
func (c *conn) push() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for !c.ended && len(c.buffer) == 0 && !c.guestDone {
			c.change.Wait()
		}
		if c.ended || len(c.buffer) == 0 {
			break
		}
		data := c.buffer
		c.buffer = nil
		c.mu.Unlock()
		_, err := c.unix.Write(data)
		c.mu.Lock()
		c.taken += uint32(len(data))
		c.session.buffered.Add(-int64(len(data)))
		answer := c.credit()
		c.mu.Unlock()
		if err != nil {
			c.abort(true)
		} else if answer != 0 {
			c.session.send(reply{conn: c, header: header{op: answer}})
		}
		c.mu.Lock()
	}
	if c.ended {
		return
	}
	_ = c.unix.CloseWrite() // fails when the host is gone, which pull finds out
	for !c.ended && !c.guestDeaf {
		c.change.Wait()
	}
	c.mu.Unlock()
	c.abort(true) // as the guest expects when it is done both ways
	c.mu.Lock()
}

// pull takes what the host sends to the guest, behind a first packet if there is
// one.
func (c *conn) pull(first operation) {
	var chain virtio.Chain
	if first != 0 {
		if !c.session.inbox.take(&chain, c) {
			return
		}
		c.mu.Lock()
		c.put(&chain, header{op: first}, 0)
		c.mu.Unlock()
	}
	for c.awaitRoom() && c.awaitHost(unix.POLLIN|unix.POLLHUP) {
		if !c.session.inbox.take(&chain, c) {
			return
		}
		more, err := c.move(&chain)
		if err != nil {
			c.abort(true)
			return
		}
		if !more {
			break
		}
	}
	// The host sends no more. It has closed the connection when it does not
	// receive either.
	if c.awaitHost(unix.POLLHUP) && c.session.inbox.take(&chain, c) {
		c.mu.Lock()
		c.put(&chain, header{op: opShutdown, flags: noSend | noReceive}, 0)
		c.mu.Unlock()
	}
}

// awaitRoom waits until the guest has room. It returns false when nothing is to
// be sent any more.
func (c *conn) awaitRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended && !c.guestDeaf && c.window() == 0 {
		c.change.Wait()
	}
	return !c.ended && !c.guestDeaf
}

// window is how many bytes the guest has room for. virtio §5.10.6.3.
func (c *conn) window() uint32 {
	if out := c.sent - c.forwarded; out < c.room {
		return c.room - out
	}
	return 0
}

// awaitHost waits for an event of the socket. It returns false when the
// connection ends before.
func (c *conn) awaitHost(events int16) bool {
	return c.raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, 0)
		return n > 0 && fds[0].Revents&(events|unix.POLLERR) != 0 || err != nil && err != unix.EINTR
	}) == nil
}

// move reads from the host, which has something, straight into a buffer of the
// guest's. It returns false when that was the end.
func (c *conn) move(chain *virtio.Chain) (more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vector.Set(chain.Writable)
	c.vector.Skip(headerSize)
	c.vector.Truncate(uint64(c.window()))
	h := header{op: opData}
	var n int
	switch {
	case c.ended || c.guestDeaf:
		h = header{op: opCreditUpdate} // which does no harm
	case c.vector.Empty(): // a buffer for a header only
		h = header{op: opCreditUpdate}
		more = true
	default:
		if e := c.raw.Control(func(fd uintptr) { n, err = c.vector.Readv(int(fd)) }); e != nil {
			err = e
		}
		switch {
		case err == unix.EAGAIN:
			h, more, err = header{op: opCreditUpdate}, true, nil
		case err != nil || n == 0:
			h = header{op: opShutdown, flags: noSend}
		default:
			c.sent += uint32(n)
			more = true
		}
	}
	c.put(chain, h, n)
	return more, err
}

// put sends a packet of the connection's. The lock is held: what the packet
// says about room at the host must not be overtaken by what a later one does.
func (c *conn) put(chain *virtio.Chain, h header, n int) {
	h.srcCID, h.dstCID = hostCID, uint64(c.session.config.CID)
	h.srcPort, h.dstPort = c.id.host, c.id.guest
	h.kind = kindStream
	h.bufAlloc, h.fwdCnt = bufferSize, c.taken
	c.announced = c.taken
	c.session.inbox.put(chain, &h, n)
}
