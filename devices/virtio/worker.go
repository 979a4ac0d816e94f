package virtio

import (
	"runtime"
	"time"
)

// Worker is a goroutine that serves a queue.
type Worker struct {
	queue *Queue
	done  chan struct{}
}

// StartWorker begins to serve q: whenever the doorbell rings, serve is called
// until the driver has no more. serve takes what waits in the queue, as far as
// it can, and returns; it is called by one goroutine.
func StartWorker(q *Queue, serve func()) *Worker {
	return StartLoop(q, func() {
		for {
			// While we look, the driver need not call: under load, one
			// doorbell is enough for many chains.
			for more := true; more && !q.Stopping(); more = q.EnableNotifications() {
				q.DisableNotifications()
				serve()
			}
			q.Yield()
			if q.Stopping() {
				return
			}
			q.AwaitDoorbell()
		}
	})
}

// StartLoop runs loop in a goroutine, for a worker that has more to wait for
// than the doorbell. It must return when q.Stopping; the doorbell rings then.
func StartLoop(q *Queue, loop func()) *Worker {
	makeRoom()
	w := &Worker{queue: q, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		loop()
	}()
	return w
}

// A worker is nearly always in a system call. Go's monitor thread takes the
// processor (a P, one of GOMAXPROCS) from a goroutine in a system call: at once
// where there is no other that is idle, and, once a goroutine has not been scheduled
// for 10 ms, in each of its calls. The worker then has to get a P back and to wake
// the monitor up. On a host of one processor that was three more switches of threads
// in each request; there, a second P is made, and workers that are busy give theirs
// up now and then. One whose requests are rare had better lose its P: for as long as
// it has one the monitor looks every 20 µs, up to 10 ms. With four Ps vmm took 0.2 to
// 0.7 MiB more of memory. With two processors the monitor runs beside the worker, and
// the remedy took longer: 8.6 µs a round trip instead of 7.6.
const (
	enoughPs   = 2
	yieldAfter = 5 * time.Millisecond
)

func oneProcessor() bool { return runtime.NumCPU() == 1 }

// makeRoom makes the second P.
func makeRoom() {
	if oneProcessor() && runtime.GOMAXPROCS(0) < enoughPs {
		runtime.GOMAXPROCS(enoughPs)
	}
}

// Yield has Go schedule the worker anew, if it is busy and that is due. Workers call it
// each time before they wait.
func (q *Queue) Yield() {
	if !oneProcessor() {
		return
	}
	now := time.Now()
	rare := now.Sub(q.waited) >= yieldAfter
	q.waited = now
	switch {
	case rare:
		q.yielded = now
	case now.Sub(q.yielded) >= yieldAfter:
		q.yielded = now
		runtime.Gosched()
	}
}

// Wake has serve called, as the doorbell does.
func (w *Worker) Wake() { w.queue.Wake() }

// Wake wakes the queue's worker, as the doorbell does.
func (q *Queue) Wake() { q.doorbell.Signal() }

// Stop ends the worker and waits for it. From now on Pop finds nothing, and
// serve must return. It may be called again.
func (w *Worker) Stop() {
	w.queue.stopping.Store(true)
	w.Wake()
	<-w.done
}
