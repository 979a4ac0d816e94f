// Package console is the host's end of a guest's serial console: the terminal
// or the pipes that vmm was started with.
package console

import (
	"io"
	"sync"
)

// bufferSize is how far the guest may be ahead of the reader, in bytes.
const bufferSize = 64 << 10

// Output stands between the guest and a slow reader. What is written to it
// goes out through a goroutine of its own, in larger pieces; when the buffer is
// full, Write waits. Nothing is lost, unless Abort says so.
type Output struct {
	w      io.Writer
	failed func(error)
	done   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	changed sync.Cond // the buffer, or one of the flags below
	buffer  []byte    // waits to be taken by the goroutine
	closed  bool      // nothing more comes
	aborted bool      // what is left is dropped
}

var _ io.Writer = (*Output)(nil)

// NewOutput returns an Output that writes to w. failed is called, once, with
// the error when w cannot be written to any more; what the guest writes after
// that is dropped. Close ends the goroutine behind it.
func NewOutput(w io.Writer, failed func(error)) *Output {
	o := &Output{w: w, failed: failed, done: make(chan struct{})}
	o.changed.L = &o.mu
	go o.drain()
	return o
}

// Write buffers p, and waits while the buffer is full. It never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buffer) >= bufferSize && !o.aborted {
		o.changed.Wait()
	}
	if !o.aborted {
		o.buffer = append(o.buffer, p...)
		o.changed.Broadcast()
	}
	return len(p), nil
}

// Abort drops what has not gone out and lets every Write return at once. It
// is for the end of a machine that nobody reads from any more.
func (o *Output) Abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.abort()
}

func (o *Output) abort() {
	o.aborted = true
	o.buffer = nil
	o.changed.Broadcast()
}

// Close waits until all that was written has gone out. After an Abort it does
// not wait: a write under way may be stuck for good.
func (o *Output) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
	for !o.aborted {
		select {
		case <-o.done:
			return
		default:
			o.changed.Wait()
		}
	}
}

// drain is the goroutine: it takes all there is, writes it, and looks again.
func (o *Output) drain() {
	defer func() {
		o.mu.Lock()
		close(o.done)
		o.changed.Broadcast()
		o.mu.Unlock()
	}()
	var piece []byte
	for {
		o.mu.Lock()
		for len(o.buffer) == 0 && !o.closed && !o.aborted {
			o.changed.Wait()
		}
		// The two slices change places, so that nothing is allocated.
		piece, o.buffer = o.buffer, piece[:0]
		o.changed.Broadcast()
		end := len(piece) == 0
		o.mu.Unlock()
		if end {
			return
		}
		if _, err := o.w.Write(piece); err != nil {
			o.Abort()
			o.failed(err)
			return
		}
	}
}
