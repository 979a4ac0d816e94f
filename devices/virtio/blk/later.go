package blk

import (
	"golang.org/x/sys/unix"

	"vmm/uring"
)

// filed is an Image whose bytes are those of a file, at the same offsets.
type filed interface{ FD() int }

// loop serves a queue until the device is stopped, and then waits for what is
// under way.
func (s *server) loop() {
	for q := s.queue; ; {
		for more := true; more && !q.Stopping(); more = q.Listen() {
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
	file, ok := s.device.config.Image.(filed)
	moves := (r.kind == typeIn || r.kind == typeOut) && r.size > 0
	limited := s.device.iops != nil || s.device.bytes != nil
	if !ok || !moves || limited || !s.needRing() {
		s.device.await(r)
		return
	}
	r.vector.Set(r.data)
	if r.kind == typeIn {
		s.ring.Read(file.FD(), &r.vector, r.off, 0, r.number)
		return
	}
	flags := 0
	if s.device.sync {
		flags = unix.RWF_DSYNC
	}
	s.ring.Write(file.FD(), &r.vector, r.off, flags, r.number)
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

// done ends what a ring was to do. What it did in part, or not at all, a thread
// does again: it knows what to do about each error.
func (s *server) done(number uint64, n int, err error) {
	r := s.all[number]
	if err != nil || n != int(r.size) {
		s.device.await(r)
		return
	}
	r.finish(statusOK, nil)
}
