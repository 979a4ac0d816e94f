package uring

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// newRing returns a ring for n requests and its eventfd, or skips where the host
// forbids io_uring.
func newRing(t *testing.T, n int) (*Ring, int) {
	t.Helper()
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(wake) })
	r, err := New(n)
	if err != nil {
		t.Skip(err)
	}
	r.Watch(wake)
	t.Cleanup(r.Close)
	return r, wake
}

func vector(p []byte) *memory.Vector {
	v := new(memory.Vector)
	v.Set([][]byte{p[:len(p)/3], p[len(p)/3:]})
	return v
}

// What is written with many requests at once is read the same way, through
// several turns of the ring.
func TestReadWrite(t *testing.T) {
	const n, size = 16, 5000
	r, _ := newRing(t, n)
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, got := make([]byte, n*size), make([]byte, n*size)
	for turn := range 5 {
		_, _ = rand.Read(data)
		for _, write := range []bool{true, false} {
			vectors := make([]*memory.Vector, n)
			seen := make(map[uint64]int)
			for i := range n {
				at := i * size
				if write {
					vectors[i] = vector(data[at : at+size])
					r.Write(int(f.Fd()), vectors[i], int64(at), 0, uint64(i))
				} else {
					vectors[i] = vector(got[at : at+size])
					r.Read(int(f.Fd()), vectors[i], int64(at), 0, uint64(i))
				}
			}
			for r.Busy() {
				r.Wait(func(token uint64, n int, err error) {
					seen[token]++
					if n != size || err != nil {
						t.Errorf("request %d: %d, %v", token, n, err)
					}
				})
			}
			if len(seen) != n {
				t.Errorf("turn %d: answers to %d of %d requests", turn, len(seen), n)
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatal("something else was read")
		}
	}
}

func TestErrors(t *testing.T) {
	r, _ := newRing(t, 4)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := vector(make([]byte, 100))
	r.Read(-1, v, 0, 0, 1)
	r.Read(int(f.Fd()), v, 0, 0, 2) // at the end of the file
	for r.Busy() {
		r.Wait(func(token uint64, n int, err error) {
			if n != 0 || (err == unix.EBADF) != (token == 1) {
				t.Errorf("request %d: %d, %v", token, n, err)
			}
		})
	}
}

// A signal of the eventfd ends a wait, once for each time that the ring is armed.
func TestWake(t *testing.T) {
	r, wake := newRing(t, 1)
	for range 3 {
		r.Arm()
		r.Arm()
		go func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }()
		r.Wait(func(uint64, int, error) { t.Error("an answer to nothing") })
		if r.Busy() {
			t.Error("the ring is still armed")
		}
	}
}

// A ring that is full takes no more, loses none of what it has, and takes as many
// again afterwards.
func TestFull(t *testing.T) {
	const n, size = 5, 64 // 6 requests, with the eventfd's, in a ring of 8
	r, wake := newRing(t, n)
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, size)
	for range 10 {
		r.Arm()
		started := uint64(0)
		for ; r.Write(int(f.Fd()), vector(data), 0, 0, started); started++ {
			if started > 2*n {
				t.Fatal("the ring is never full")
			}
		}
		if r.Read(int(f.Fd()), vector(data), 0, 0, 99) || started != n {
			t.Errorf("%d requests were started; want %d", started, n)
		}
		seen := make(map[uint64]int)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		for r.Busy() {
			r.Wait(func(token uint64, _ int, err error) {
				if seen[token]++; err != nil || seen[token] > 1 || token >= n {
					t.Errorf("request %d, answer %d: %v", token, seen[token], err)
				}
			})
		}
		if len(seen) != n {
			t.Errorf("%d requests were answered", len(seen))
		}
	}
}
