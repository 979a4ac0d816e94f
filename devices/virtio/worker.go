package virtio

// Worker is a goroutine that serves a queue: it sleeps until the doorbell
// rings, and then works until the driver has no more for it.
type Worker struct {
	queue *Queue
	done  chan struct{}
}

// StartWorker begins to serve q. serve takes what waits in the queue, as far
// as it can, and returns; it is called by one goroutine.
func StartWorker(q *Queue, serve func()) *Worker {
	w := &Worker{queue: q, done: make(chan struct{})}
	go w.run(serve)
	return w
}

func (w *Worker) run(serve func()) {
	defer close(w.done)
	for {
		// While we look, the driver need not call: under load, one doorbell
		// is enough for many chains.
		for more := true; more && !w.queue.stopping.Load(); more = w.queue.Listen() {
			w.queue.Silence()
			serve()
		}
		if w.queue.stopping.Load() {
			return
		}
		w.queue.doorbell.Wait()
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
