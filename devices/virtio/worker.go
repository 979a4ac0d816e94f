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
			for more := true; more && !q.Stopping(); more = q.Listen() {
				q.Silence()
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
// processor (a P, one of GOMAXPROCS) from a goroutine in a system call, at once
// where that was the last one, and from then on again in each call of a goroutine
// that has not been scheduled for 10 ms. The worker has to get a P back and to wake
// the monitor: three more switches of threads in each request, measured. So there
// are more Ps than can be busy, and workers give theirs up now and then.
const (
	sparePs    = 8
	yieldAfter = 5 * time.Millisecond
)

// makeRoom sees to it that there are spare Ps.
func makeRoom() {
	if n := runtime.NumCPU() + sparePs; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// Yield lets Go schedule the worker anew, if that is due. Workers call it each
// time before they wait.
func (q *Queue) Yield() {
	if now := time.Now(); now.Sub(q.yielded) >= yieldAfter {
		q.yielded = now
		runtime.Gosched()
	}
}

// Wake has serve called, as the doorbell does.
func (w *Worker) Wake() { w.queue.doorbell.Signal() }

// Stop ends the worker and waits for it. From now on Pop finds nothing, and
// serve must return.
func (w *Worker) Stop() {
	w.queue.stopping.Store(true)
	w.Wake()
	<-w.done
}
