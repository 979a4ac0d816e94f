package blk

import (
	"golang.org/x/sys/unix"

	"vmm/memory"
	"vmm/uring"
)

// filed is an Image whose bytes are those of a file, at the same offsets.
type filed interface {
	// File is the file to whose offset off v may be written, or from which it
	// may be read, without asking the image: false where it must be asked.
	File(v *memory.Vector, off int64, write bool) (fd int, ok bool)
}

// loop serves a queue until the device is stopped, and then waits for what is
// under way.
func (s *server) loop() {
	for q := s.queue; ; {
		for more := true; more && !q.Stopping(); more = q.EnableNotifications() && !s.crowded() {
			q.DisableNotifications()
			s.serve()
		}
		q.Yield()
		// The doorbell rings a last time after the queue is stopping. A ring
		// that is armed before sees it; after, it is not armed any more.
		busy := s.ring != nil && s.ring.Busy()
		switch stopping := q.Stopping(); {
		case busy:
			if !stopping {
				s.ring.Arm()
			}
			s.ring.Wait(s.done)
			q.Notify()
		case !stopping:
			q.AwaitDoorbell()
		default:
			return
		}
	}
}

// later has a request served that waits for the storage: reads and writes of a
// file by the kernel, through a ring; by a thread what a ring does not do. Nor
// does it serve a disk with limits, whose worker sleeps: it would see the answers
// late.
func (s *server) later(r *request) {
	s.wait(r)
	if !s.start(r) {
		s.device.await(r)
	}
}

// start has the ring move the next part of a request's data, if it can.
func (s *server) start(r *request) bool {
	if s.ring == nil || len(r.data) == 0 {
		return false
	}
	file := s.device.config.Image.(filed) // or there is no ring
	r.next()
	fd, ok := file.File(&r.vector, r.off, r.kind == typeOut)
	switch {
	case !ok:
		return false
	case r.kind == typeIn:
		return s.ring.Read(fd, &r.vector, r.off, 0, r.number)
	case s.device.sync:
		return s.ring.Write(fd, &r.vector, r.off, unix.RWF_DSYNC, r.number)
	default:
		return s.ring.Write(fd, &r.vector, r.off, 0, r.number)
	}
}

// addRings makes a ring for each queue where one is of use: while rings can still be
// made, before the process is caged. They take no requests but those for which they
// are here.
func (d *Device) addRings() {
	if _, ok := d.config.Image.(filed); !ok || d.iops != nil || d.bytes != nil {
		return
	}
	for range d.info.Queues {
		ring, err := uring.New(queueSize)
		if err != nil { // the others fail, too
			d.noRing = err
			return
		}
		d.rings = append(d.rings, ring)
	}
}

// done ends what a ring was to do, or goes on with the rest. What the ring did in
// part, or not at all, a thread does again: it knows what to do about each error.
func (s *server) done(number uint64, n int, err error) {
	r := s.all[number]
	if err != nil || n != r.vector.Len() {
		s.device.await(r)
		return
	}
	r.moved(n)
	switch {
	case len(r.data) == 0:
		r.finish(statusOK, nil)
	case s.device.stopped() != nil:
		r.finish(statusIOErr, nil) // nobody waits for the answer
	case !s.start(r):
		s.device.await(r)
	}
}
