// Package console is the host's end of a guest's serial console: the terminal
// or the pipes that vmm was started with.
package console

import (
	"io"
	"os"
	"sync"
)

// bufferSize is how far the guest may be ahead of the reader, in bytes.
const bufferSize = 64 << 10

// Output stands between the guest and a slow reader. As long as the reader
// keeps up, each Write goes straight out. When it does not, what is written is
// buffered and goes out through a goroutine; and when the buffer is full, Write
// waits. Nothing is lost, unless Abort says so.
type Output struct {
	f      *os.File
	failed func(error)
	done   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	changed sync.Cond // the buffer, or one of the flags below
	buffer  []byte    // waits to be taken by the goroutine
	busy    bool      // the goroutine is writing what it took
	closed  bool      // nothing more comes
	aborted bool      // what is left is dropped
}

var _ io.Writer = (*Output)(nil)

// NewOutput returns an Output that writes to f. failed is called, once, with
// the error when f cannot be written to any more; what the guest writes after
// that is dropped. Close ends the goroutine behind it.
func NewOutput(f *os.File, failed func(error)) *Output {
	o := &Output{f: f, failed: failed, done: make(chan struct{})}
	o.changed.L = &o.mu
	go o.drain()
	return o
}

// Write sends or buffers p, and waits while the buffer is full. It never
// fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := len(p)
	if len(o.buffer) == 0 && !o.busy && !o.aborted && o.writable() {
		// At least PIPE_BUF bytes fit: this does not block.
		if n, err := unix.Write(int(o.f.Fd()), p[:min(len(p), pipeBuf)]); err == nil {
			p = p[n:]
		}
		// An error shows again when the goroutine tries.
	}
	if len(p) == 0 {
		return size, nil
	}
	for len(o.buffer) >= bufferSize && !o.aborted {
		o.changed.Wait()
	}
	if !o.aborted {
		o.buffer = append(o.buffer, p...)
		o.changed.Broadcast()
	}
	return size, nil
}

// pipeBuf is how many bytes a pipe that is writable takes at once, at least.
// pipe(7), PIPE_BUF.
const pipeBuf = 4096

// writable reports whether a write would not block.
func (o *Output) writable() bool {
	fds := []unix.PollFd{{Fd: int32(o.f.Fd()), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents == unix.POLLOUT
}

// Abort drops what has not gone out and lets every Write return at once. It
// is for the end of a machine that nobody reads from any more.
func (o *Output) Abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.aborted = true
	o.buffer = nil
	o.changed.Broadcast()
}

// Close waits until all that was written has gone out, and returns the error
// if it could not. After an Abort it does not wait: a write under way may be
// stuck for good.
func (o *Output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
	for !o.aborted && !o.ended {
		o.changed.Wait()
	}
	return o.err
}

// fail notes why w cannot be written to, and tells. Close waits for it, so that
// no error comes after the end.
func (o *Output) fail(err error) {
	o.mu.Lock()
	o.err = err
	o.buffer = nil
	o.changed.Broadcast()
	o.mu.Unlock()
	o.failed(err)
}

// drain is the goroutine: it takes all there is, writes it, and looks again.
func (o *Output) drain() {
	defer func() {
		o.mu.Lock()
		o.ended = true
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
			o.fail(err)
			return
		}
	}
}
