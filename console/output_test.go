package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newOutput returns an Output to f that must not fail.
func newOutput(t *testing.T, f *os.File) *Output {
	t.Helper()
	return newFailing(t, f, func(err error) { t.Errorf("the output failed: %v", err) })
}

func newFailing(t *testing.T, f *os.File, failed func(error)) *Output {
	t.Helper()
	o, err := NewOutput(f, failed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// inTime fails the test when f does not return.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

func TestOutputKeepsEveryByteInOrder(t *testing.T) {
	for _, size := range []int{1, 7, pieceSize + 1, 1 << 20} {
		r, w := pipe(t)
		want := random(1 << 20)
		o := newOutput(t, w)
		var writer sync.WaitGroup
		writer.Go(func() {
			for rest := want; len(rest) > 0; {
				n, err := o.Write(rest[:min(size, len(rest))])
				if err != nil || n == 0 {
					t.Errorf("Write = %d, %v", n, err)
					break
				}
				rest = rest[n:]
			}
			w.Close()
		})
		got, err := io.ReadAll(r)
		writer.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("in pieces of %d: %d bytes arrived of %d, or not the same", size, len(got), len(want))
		}
	}
}

// A terminal's output may have been made non-blocking by whoever shares it.
func TestOutputToANonBlockingPipe(t *testing.T) {
	r, w := pipe(t)
	if err := syscall.SetNonblock(int(w.Fd()), true); err != nil {
		t.Fatal(err)
	}
	o := newOutput(t, w)
	const size = 1 << 20
	var writer sync.WaitGroup
	writer.Go(func() {
		_, _ = o.Write(make([]byte, size))
		w.Close()
	})
	n, err := io.Copy(io.Discard, r)
	writer.Wait()
	if err != nil || n != size {
		t.Errorf("%d bytes arrived, %v; want %d", n, err, size)
	}
}

// stuck writes from several goroutines to a pipe that nobody reads, and waits
// until they wait.
func stuck(t *testing.T, o *Output) (writers *sync.WaitGroup) {
	t.Helper()
	writers = new(sync.WaitGroup)
	progress := make(chan struct{}, 1)
	for range 3 {
		writers.Go(func() {
			for range 1 << 20 {
				_, _ = o.Write([]byte{'x'})
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	for {
		select {
		case <-progress:
		case <-time.After(200 * time.Millisecond):
			return writers
		}
	}
}

func TestOutputWaitsForASlowReader(t *testing.T) {
	r, w := pipe(t)
	o := newOutput(t, w)
	writers := stuck(t, o)
	var closer sync.WaitGroup
	closer.Go(func() {
		writers.Wait()
		w.Close()
	})
	n, err := io.Copy(io.Discard, r)
	closer.Wait()
	if err != nil || n != 3<<20 {
		t.Errorf("%d bytes arrived, %v; want %d", n, err, 3<<20)
	}
}

func TestAbortFreesWritersFromAStuckPipe(t *testing.T) {
	_, w := pipe(t)
	o := newOutput(t, w)
	writers := stuck(t, o)
	inTime(t, "Abort", func() {
		o.Abort()
		o.Abort() // a second time does no harm
		writers.Wait()
	})
	if n, err := o.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("after Abort Write = %d, %v", n, err)
	}
}

func TestOutputFails(t *testing.T) {
	gone := func() *os.File {
		r, w := pipe(t)
		r.Close()
		return w
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, tt := range []struct {
		f    *os.File
		want error
	}{
		{full, syscall.ENOSPC},
		{gone(), syscall.EPIPE},
	} {
		var told []error
		o := newFailing(t, tt.f, func(err error) { told = append(told, err) })
		for range 3 {
			if n, err := o.Write([]byte("abc")); n != 3 || err != nil {
				t.Errorf("Write = %d, %v; want it dropped", n, err)
			}
		}
		if len(told) != 1 || !errors.Is(told[0], tt.want) {
			t.Errorf("told %v; want %v, once", told, tt.want)
		}
	}
}

func TestOutputAllocatesNothing(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	o := newOutput(t, null)
	b := []byte{'x'}
	if n := testing.AllocsPerRun(1000, func() { _, _ = o.Write(b) }); n > 0 {
		t.Errorf("a Write allocates %v times", n)
	}
}
