package virtio

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
	w := &Worker{queue: q, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		loop()
	}()
	return w
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
