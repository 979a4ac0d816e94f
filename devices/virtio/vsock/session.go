package vsock

import (
	"net"
	"sync"
	"sync/atomic"

	"vmm/devices/virtio"
)

const (
	// maxConnections bounds what a guest can have the host keep. One that has
	// ended counts until its goroutines have.
	maxConnections = 1024
	// maxBuffered is how many bytes wait in all connections together for
	// programs of the host that are slow to read. A connection that would have
	// more wait is reset.
	maxBuffered = 64 << 20
	// maxReplies is how many packets without payload may wait for buffers of
	// the driver, before the device takes no more packets from it. virtio
	// §5.10.6.1: both queues must not wait for each other.
	maxReplies = 1024
	// firstPort is where the ports begin that the host's programs connect
	// from. Those below are for servers.
	firstPort = 1 << 30
)

// session is the device from Activate to Reset: its connections, and the two
// queues that carry them.
//
// Locks: that of a connection comes before that of the session.
type session struct {
	config   Config
	inbox    inbox
	outbox   *virtio.Queue // the one with packets of the driver
	replies  chan reply
	stopped  chan struct{} // closed by close
	transmit *virtio.Worker
	done     sync.WaitGroup
	buffered atomic.Int64 // bytes in the buffers of all connections

	mu       sync.Mutex
	held     chan struct{}   // closed while the session is paused
	spilled  []reply         // for which there was no room in replies then
	conns    map[ports]*conn // nil when the session is over
	count    int             // connections, with those that are ending
	nextPort uint32
}

// ports identify a connection.
type ports struct{ guest, host uint32 }

// reply is a packet without payload that waits for a buffer: of a connection,
// which fills in the header when it is time, or of none.
type reply struct {
	conn *conn
	header
}

func newSession(c Config, rx, tx *virtio.Queue) *session {
	s := &session{
		config: c, outbox: tx, conns: map[ports]*conn{}, nextPort: firstPort,
		replies: make(chan reply, maxReplies), stopped: make(chan struct{}),
	}
	s.inbox.more.L, s.inbox.queue = &s.inbox.mu, rx
	s.resume()
	s.done.Go(s.reply)
	return s
}

// pause stops what touches the queues. Connections stay: their goroutines wait for
// buffers.
func (s *session) pause() {
	s.mu.Lock()
	close(s.held)
	s.mu.Unlock()
	s.transmit.Stop()
	s.inbox.pause()
}

// resume starts what touches the queues.
func (s *session) resume() {
	s.mu.Lock()
	s.held = make(chan struct{})
	spilled := s.spilled
	s.spilled = nil
	s.mu.Unlock()
	if len(spilled) > 0 {
		s.done.Go(func() {
			for _, r := range spilled {
				s.send(r)
			}
		})
	}
	s.inbox.start()
	s.transmit = virtio.StartWorker(s.outbox, func() { s.serve(s.outbox) })
}

// close ends all connections, and what serves them.
func (s *session) close() {
	close(s.stopped)
	s.inbox.stop()
	s.transmit.Stop()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for _, c := range conns {
		c.end()
	}
	s.done.Wait()
}

// serve takes packets from the guest.
func (s *session) serve(tx *virtio.Queue) {
	var chain virtio.Chain
	for tx.Pop(&chain) {
		var b [headerSize]byte
		if chain.Readable.Read(b[:]) == len(b) {
			s.handle(parseHeader(&b), chain.Readable)
		}
		tx.Push(&chain, 0)
		tx.Notify()
	}
}

// handle acts on a packet. Nonsense is answered with a reset of the connection
// that it is about, and forgotten where it can't be about any. virtio
// §5.10.6.4.1.
func (s *session) handle(h header, payload virtio.Buffers) {
	if h.srcCID != uint64(s.config.CID) {
		return
	}
	id := ports{guest: h.srcPort, host: h.dstPort}
	if h.dstCID != hostCID || h.kind != kindStream {
		s.refuse(h)
		return
	}
	s.mu.Lock()
	c := s.conns[id]
	s.mu.Unlock()
	switch {
	case c != nil && h.op == opReset:
		c.abort(false)
	case c != nil:
		c.handle(h, payload)
	case h.op == opRequest:
		s.request(id, h)
	default:
		s.refuse(h)
	}
}

// refuse answers a packet that is about nothing.
func (s *session) refuse(h header) {
	if h.op != opReset {
		s.send(reply{header: header{
			srcCID: h.dstCID, dstCID: h.srcCID, srcPort: h.dstPort, dstPort: h.srcPort,
			kind: h.kind, op: opReset,
		}})
	}
}

// request connects a program of the guest to one of the host.
func (s *session) request(id ports, h header) {
	c := newConn(s, id)
	c.peer(h)
	if !s.add(c) {
		s.refuse(h)
		return
	}
	s.run(c, func() {
		unix, err := s.dial(c)
		if err != nil {
			c.abort(true)
			return
		}
		c.accepted(unix)
	})
}

// connect connects a program of the host to a port of the guest.
func (s *session) connect(unix *net.UnixConn, port uint32) {
	s.mu.Lock()
	id := ports{guest: port, host: s.nextPort}
	for s.conns[id] != nil {
		id.host = max(id.host+1, firstPort)
	}
	s.nextPort = max(id.host+1, firstPort)
	s.mu.Unlock()
	c := newConn(s, id)
	if !s.add(c) {
		unix.Close()
		return
	}
	c.ask(unix)
}

// add takes a connection in, unless there are too many. Its end removes it.
func (s *session) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || s.count >= maxConnections || s.conns[c.id] != nil {
		return false
	}
	s.conns[c.id] = c
	s.count++
	c.refs++
	return true
}

// run starts a goroutine of a connection's.
func (s *session) run(c *conn, do func()) {
	s.mu.Lock()
	c.refs++
	s.mu.Unlock()
	s.done.Go(func() {
		do()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.release(c)
	})
}

// release lets go of a connection. The lock is held.
func (s *session) release(c *conn) {
	if c.refs--; c.refs == 0 {
		s.count--
	}
}

func (s *session) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.id] == c {
		delete(s.conns, c.id)
	}
	s.release(c)
}

// send has a packet without payload sent, in its turn.
func (s *session) send(r reply) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	select {
	case s.replies <- r:
	case <-s.stopped:
	case <-held: // nobody may wait for the guest now
		s.mu.Lock()
		defer s.mu.Unlock()
		s.spilled = append(s.spilled, r)
	}
}

func (s *session) reply() {
	var chain virtio.Chain
	for {
		select {
		case r := <-s.replies:
			if !s.inbox.take(&chain, nil) {
				return
			}
			if r.conn == nil {
				s.inbox.put(&chain, &r.header, 0)
				continue
			}
			r.conn.mu.Lock()
			r.conn.put(&chain, r.header, 0)
			r.conn.mu.Unlock()
		case <-s.stopped:
			return
		}
	}
}

// inbox is the queue with the driver's buffers, which all connections share.
type inbox struct {
	worker *virtio.Worker

	mu      sync.Mutex
	more    sync.Cond // of any of what follows, and there may be buffers
	queue   *virtio.Queue
	paused  bool // no buffers are taken
	taken   int  // buffers, that will be put
	stopped bool
}

func (i *inbox) start() {
	q := i.queue
	i.worker = virtio.StartLoop(q, func() {
		for !q.Stopping() {
			q.AwaitDoorbell()
			i.wake()
		}
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.paused = false
	i.more.Broadcast()
}

// pause waits until no buffer is taken, and none will be.
func (i *inbox) pause() {
	i.mu.Lock()
	i.paused = true
	for i.taken > 0 {
		i.more.Wait()
	}
	i.mu.Unlock()
	i.worker.Stop()
}

// wake has all who wait look again.
func (i *inbox) wake() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.more.Broadcast()
}

func (i *inbox) stop() {
	i.mu.Lock()
	i.stopped = true
	i.more.Broadcast()
	i.mu.Unlock()
	i.worker.Stop()
}

// take waits for a buffer that has room for a header. It returns false when the
// session ends, or the connection that the buffer is for, if any.
func (i *inbox) take(c *virtio.Chain, who *conn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	over := func() bool { return i.stopped || who != nil && who.gone.Load() }
	for !over() {
		if i.paused {
			i.more.Wait()
			continue
		}
		if i.queue.Pop(c) {
			if c.Writable.Len() >= headerSize {
				i.taken++
				return true
			}
			i.queue.Push(c, 0)
			i.queue.Notify()
			continue
		}
		if !i.queue.EnableNotifications() && !over() {
			i.more.Wait()
		}
	}
	return false
}

// put gives the buffer to the guest, with a header in front of the n bytes of
// payload that are behind it already.
func (i *inbox) put(c *virtio.Chain, h *header, n int) {
	var b [headerSize]byte
	h.len = uint32(n)
	h.put(&b)
	c.Writable.Write(b[:])
	i.queue.Push(c, headerSize+h.len)
	i.queue.Notify()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.taken--; i.paused {
		i.more.Broadcast()
	}
}
