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
		for more := true; more && !q.Stopping(); more = q.Listen() && !s.crowded() {
			q.Silence()
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
			if s.ring != nil {
				s.ring.Close()
			}
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
	file, ok := s.device.config.Image.(filed)
	limited := s.device.iops != nil || s.device.bytes != nil
	if !ok || len(r.data) == 0 || limited || !s.needRing() {
		return false
	}
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

// needRing makes the ring when it is needed first.
func (s *server) needRing() bool {
	if s.ring == nil && !s.noRing {
		var err error
		if s.ring, err = uring.New(s.queue.Size(), s.queue.DoorbellFD()); err != nil {
			s.device.env.Log.Info("disk "+s.device.config.Name+": threads will wait for the storage", "reason", err)
			s.noRing = true
		}
	}
	return s.ring != nil
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
