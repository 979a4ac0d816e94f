package net

import (
	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/memory"
)

// await waits until one of the descriptors is ready. It returns false when the
// device is stopped: the worker then has nothing to do but to wait for its end.
func (d *Device) await(fds ...unix.PollFd) bool {
	all := [3]unix.PollFd{{Fd: int32(d.stop.FD()), Events: unix.POLLIN}}
	n := 1 + copy(all[1:], fds)
	for {
		if _, err := unix.Poll(all[:n], -1); err != unix.EINTR {
			return all[0].Revents == 0
		}
	}
}

// sender takes frames of the guest to the port.
type sender struct {
	device *Device
	queue  *virtio.Queue
	fd     int
	chain  virtio.Chain
	vector memory.Vector
}

// serve sends the frames that wait, from where they are in guest memory. A frame
// that the host refuses is lost, as on any network.
func (s *sender) serve() {
	for s.queue.Pop(&s.chain) {
		size := s.chain.Readable.Len()
		if s.device.up.Load() && !s.send() {
			s.queue.Unpop(&s.chain)
			break
		}
		s.queue.Push(&s.chain, 0)
		s.queue.NotifySoon(size)
	}
	s.queue.Notify()
}

// send returns false when the device is stopped before the port takes the frame.
func (s *sender) send() bool {
	s.vector.Set(s.chain.Readable)
	for {
		_, err := s.vector.Writev(s.fd)
		if err != unix.EAGAIN {
			break
		}
		s.queue.Notify() // of those before: this may take a while
		if !s.device.await(unix.PollFd{Fd: int32(s.fd), Events: unix.POLLOUT}) {
			return false
		}
	}
	if c := s.device.config.Capture; c != nil {
		c.Frame(s.chain.Readable, headerSize, int(s.chain.Readable.Len()))
	}
	return true
}

// receiver takes frames from the port to the guest.
type receiver struct {
	device    *Device
	queue     *virtio.Queue
	fd        int
	mergeable bool // a frame may span several chains

	held   []*virtio.Chain // popped, not yet filled
	spare  []*virtio.Chain
	vector memory.Vector
	room   uint64 // of those held
	pieces int    // of memory that they consist of, those that hold no frame too
}

const (
	// maxFrame is the largest frame with its header.
	maxFrame = headerSize + 14 + 65535
	// maxPieces is how many pieces of memory a system call takes: UIO_MAXIOV. More
	// would not be filled.
	maxPieces = 1024
	// largeChain is the number of descriptors from which on a chain that is not
	// used is let go of, not kept: drivers make none that is as long.
	largeChain = 32
)

// loop receives frames until the device is stopped. It reads them straight into
// the driver's buffers, which therefore come first.
func (r *receiver) loop() {
	defer r.unpop()
	for ; !r.queue.Stopping(); r.queue.Yield() {
		if !r.collect() {
			// No buffers: wait for some. The doorbell rings, too, when the
			// device is stopped.
			r.queue.Notify()
			if !r.queue.EnableNotifications() {
				r.queue.AwaitDoorbell()
			}
			r.queue.DisableNotifications()
			continue
		}
		n, err := r.vector.Readv(r.fd)
		switch {
		case err == unix.EAGAIN:
			r.queue.Notify()
			if !r.device.await(unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN}) {
				r.queue.AwaitDoorbell()
			}
		case err != nil || n < headerSize:
			// This queue of the port does not take part, or the port is
			// gone. A change of the former rings the doorbell.
			r.queue.Notify()
			r.queue.AwaitDoorbell()
		case r.device.up.Load():
			r.deliver(uint64(n))
			r.queue.NotifySoon(uint64(n))
		}
	}
}

// unpop gives back the chains that hold no part of a frame yet.
func (r *receiver) unpop() {
	for _, c := range r.held {
		r.queue.Unpop(c)
	}
}

// collect takes chains until the largest frame has room in them, or a system call
// takes no more. Without mergeable buffers a frame goes into one chain, which the
// driver makes large enough. It returns false when there are too few. A chain with
// nothing to write to holds no part of any frame, and goes back at once.
func (r *receiver) collect() bool {
	for r.room < maxFrame && r.pieces < maxPieces && (r.mergeable || len(r.held) == 0) {
		c := r.chain()
		if !r.queue.Pop(c) {
			r.keep(c)
			// Drivers that have few buffers still get the frames that fit.
			if len(r.held) == 0 {
				return false
			}
			break
		}
		room := c.Writable.Len()
		if room == 0 {
			r.queue.Push(c, 0)
			r.keep(c)
			continue
		}
		r.held = append(r.held, c)
		r.room += room
		r.pieces += pieces(c)
	}
	r.vector.Set(nil)
	for _, c := range r.held {
		r.vector.Add(c.Writable)
	}
	return r.room >= headerSize
}

// pieces counts what a chain keeps in memory. A driver may put pieces to read from
// into a receive queue, where they mean nothing.
func pieces(c *virtio.Chain) int { return len(c.Readable) + len(c.Writable) }

func (r *receiver) chain() *virtio.Chain {
	if last := len(r.spare) - 1; last >= 0 {
		c := r.spare[last]
		r.spare = r.spare[:last]
		return c
	}
	return new(virtio.Chain)
}

// keep keeps a chain for the next, but no memory that only a guest with bad
// intentions makes it need.
func (r *receiver) keep(c *virtio.Chain) {
	if c.Cap() > largeChain {
		*c = virtio.Chain{}
	}
	r.spare = append(r.spare, c)
}

// deliver gives the driver the chains that hold a frame of n bytes.
func (r *receiver) deliver(n uint64) {
	count, room := 0, uint64(0)
	for ; room < n; count++ {
		room += r.held[count].Writable.Len()
		r.pieces -= pieces(r.held[count])
	}
	// The number of chains is the header's last field. virtio §5.1.6.4.
	putAt(r.held, 10, byte(count))
	putAt(r.held, 11, byte(count>>8))
	if c := r.device.config.Capture; c != nil {
		var frame [][]byte
		for _, chain := range r.held[:count] {
			frame = append(frame, chain.Writable...)
		}
		c.Frame(frame, headerSize, int(n))
	}
	r.queue.PushAll(r.held[:count], n)
	for _, c := range r.held[:count] {
		r.keep(c)
	}
	r.held = r.held[:copy(r.held, r.held[count:])]
	r.room -= room
}

// putAt sets a byte of what the chains hold.
func putAt(chains []*virtio.Chain, at int, v byte) {
	for _, c := range chains {
		for _, piece := range c.Writable {
			if at < len(piece) {
				piece[at] = v
				return
			}
			at -= len(piece)
		}
	}
}
