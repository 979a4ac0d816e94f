package virtio

import (
	"fmt"
	"slices"
)

// Cursor is where a device is in a queue: what a queue is besides its rings, which
// are in guest memory, while no chain is in flight.
type Cursor struct {
	Next     uint16 `json:"next"`     // index of the next chain to take
	Pushed   uint16 `json:"pushed"`   // index of the next used element
	Notified uint16 `json:"notified"` // Pushed, at the last look whether to interrupt
	Silent   bool   `json:"silent"`   // doorbells are switched off
	Broken   bool   `json:"broken"`
	// Returned are the heads of chains that were taken and not begun with. They
	// come before Next.
	Returned []uint16 `json:"returned,omitempty"`
}

// Unpop undoes a Pop: the device has not begun with the chain, and the next Pop takes
// it anew. A device that stops with several gives them back in the order in which it
// took them. It is for the goroutine that calls Pop.
func (q *Queue) Unpop(c *Chain) { q.returned = append(q.returned, c.head) }

// popReturned is Pop of a chain that Unpop gave back. It has stayed in flight, so that
// the driver cannot make it available again meanwhile.
func (q *Queue) popReturned(c *Chain) bool {
	head := q.returned[0]
	if err := q.collect(c, head); err != nil {
		return q.fail(err)
	}
	q.returned = q.returned[1:]
	if q.observer != nil {
		q.observer.Popped(q.index, c)
	}
	return true
}

// resume makes the queue ready for another worker.
func (q *Queue) resume() { q.stopping.Store(false) }

// cursor is where the device is in the queue. It has no worker.
func (q *Queue) cursor() Cursor {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Cursor{q.next, q.pushed, q.notified, q.silent, q.broken, slices.Clone(q.returned)}
}

// setCursor puts the device of a new queue where another was.
func (q *Queue) setCursor(c Cursor) error {
	for _, head := range c.Returned {
		if head >= q.size || q.inFlight[head].Swap(true) {
			return fmt.Errorf("virtqueue: returned: chain %d is not one of the queue's, or there twice", head)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next, q.pushed, q.notified = c.Next, c.Pushed, c.Notified
	q.silent, q.broken, q.returned = c.Silent, c.Broken, slices.Clone(c.Returned)
	return nil
}
