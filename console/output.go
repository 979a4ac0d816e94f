// Package console is the host's end of a guest's serial console: the terminal
// or the pipes that vmm was started with.
package console

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pieceSize is how many bytes a pipe that is ready for writing takes at once,
// at least. pipe(7), PIPE_BUF.
const pieceSize = 4096

// Output passes on what the guest writes. Each Write goes straight out, in the
// thread that writes: handing every byte of a serial port to another thread
// costs more than the system call. A slow reader makes the guest wait, as a
// slow serial line would, and loses nothing; Abort ends the waiting.
type Output struct {
	f      *os.File
	failed func(error)

	mu      sync.Mutex // keeps what several vCPUs write in pieces
	aborted atomic.Bool
	gone    [2]*os.File // a pipe; Abort closes the second end to wake a poll of the first
	broken  bool        // f cannot be written to any more
	midLine bool        // the last byte was not a line feed
}

var _ io.Writer = (*Output)(nil)

// NewOutput returns an Output that writes to f, which stays in blocking mode:
// that mode belongs to the open file, and a terminal's is shared with the
// shell. failed is called, once, with the error when f cannot be written to
// any more; what the guest writes after that is dropped.
func NewOutput(f *os.File, failed func(error)) (*Output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("console output: %w", err)
	}
	return &Output{f: f, failed: failed, gone: [2]*os.File{r, w}}, nil
}

// Write writes p, and waits for a slow reader until Abort. It never fails: the
// guest has no use for the error.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write(p)
	return len(p), nil
}

// WriteLine writes text, which ends with a line feed, as a line of its own: where
// the guest is in the middle of one, that one ends here.
func (o *Output) WriteLine(text []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.midLine {
		text = append([]byte("\r\n"), text...)
	}
	o.write(text)
}

func (o *Output) write(p []byte) {
	if len(p) > 0 {
		o.midLine = p[len(p)-1] != '\n'
	}
	for rest := p; len(rest) > 0 && !o.broken && o.waitWritable(); {
		n, err := unix.Write(int(o.f.Fd()), rest[:min(len(rest), pieceSize)])
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			o.broken = true
			o.failed(&os.PathError{Op: "write", Path: o.f.Name(), Err: err})
			break
		}
		rest = rest[max(n, 0):]
	}
}

// waitWritable waits until a write would not block. It returns false after
// Abort.
func (o *Output) waitWritable() bool {
	fds := []unix.PollFd{
		{Fd: int32(o.f.Fd()), Events: unix.POLLOUT},
		{Fd: int32(o.gone[0].Fd())},
	}
	for !o.aborted.Load() {
		// An error of the file shows when it is written to.
		if _, err := unix.Poll(fds, -1); err != unix.EINTR && fds[0].Revents != 0 {
			return true
		}
	}
	return false
}

// Abort lets every Write return at once, now and in future. It is for the end
// of a machine that nobody may be reading from any more.
func (o *Output) Abort() {
	if !o.aborted.Swap(true) {
		o.gone[1].Close()
	}
}

// Close lets go of what Output holds, but not of its file. No Write may be
// under way.
func (o *Output) Close() error {
	o.Abort()
	return o.gone[0].Close()
}
