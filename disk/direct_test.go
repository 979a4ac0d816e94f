package disk

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"vmm/memory"
)

// direct returns an image past the page cache whose storage has blocks of the given
// size, or says so.
func direct(t *testing.T, size int64, align int) (*raw, string) {
	t.Helper()
	path := filepath.Join(".", "testdata-"+strings.ReplaceAll(t.Name(), "/", "-")) // tmpfs has no O_DIRECT everywhere
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	r := mustOpen(t, Config{Path: path, Format: FormatRaw, Direct: true}).(*raw)
	r.align = max(r.align, align)
	return r, path
}

// aligned is memory that begins at a page.
func aligned(t *testing.T, n int) []byte {
	t.Helper()
	b, free, err := memory.Scratch(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = free() })
	return b
}

// Memory and offsets that O_DIRECT does not take go by way of memory that it takes,
// and never to the kernel.
func TestAlignment(t *testing.T) {
	for _, align := range []int{512, 4096} {
		t.Run(strconv.Itoa(align), func(t *testing.T) { testAlignment(t, align) })
	}
}

func testAlignment(t *testing.T, align int) {
	r, _ := direct(t, 4<<20, align)
	m := aligned(t, 64<<10)
	for _, tt := range []struct {
		name   string
		pieces [][]byte
		off    int64
		fits   bool
	}{
		{"blocks", [][]byte{m[:8192]}, 4096, true},
		{"several", [][]byte{m[:4096], m[8192:16384]}, 0, true},
		{"a piece at an odd address", [][]byte{m[:4096], m[8200 : 8200+4096]}, 0, false},
		{"pieces of odd lengths", [][]byte{m[:4000], m[4000:8192]}, 0, false},
		{"a sector", [][]byte{m[:512]}, 0, align == 512},
		{"at a sector", [][]byte{m[:4096]}, 512, align == 512},
		{"memory at a sector", [][]byte{m[512 : 512+4096]}, 0, align == 512},
	} {
		v := vector(tt.pieces...)
		if fits := r.fits(v, tt.off); fits != tt.fits {
			t.Errorf("%d, %s: fits %v", align, tt.name, fits)
		}
		for _, write := range []bool{false, true} {
			if _, ok := r.File(v, tt.off, write); ok != (tt.fits && !(write && align > 512)) {
				t.Errorf("%d, %s, write %v: others may move it: %v", align, tt.name, write, ok)
			}
		}
	}
}

// Whatever the blocks of the storage and the guest's pieces, what is read is what
// was written, and nothing else changes, with neighbours written at the same time.
func TestPartialBlocks(t *testing.T) {
	const size, workers = 1 << 20, 4
	r, path := direct(t, size, 4096)
	model := make([]byte, size)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for range 150 {
				// Each worker has every fourth sector: none has a block to itself.
				at := int64(random.IntN(size/512/workers)*workers+w) * 512
				data := make([]byte, 512+8)[random.IntN(8):][:512]
				for i := range data {
					data[i] = byte(random.Uint32())
				}
				copy(model[at:], data)
				if err := r.Write(vector(data[:100], data[100:]), at, false, true); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, 512)
				if err := r.Read(vector(got), at, true); err != nil || !bytes.Equal(got, data) {
					t.Errorf("sector at %d: %v", at, err)
					return
				}
			}
		})
	}
	group.Wait()
	// Longer than a buffer, from the middle of a block to that of another.
	long := make([]byte, size-1024)
	if err := r.Read(vector(long[:5], long[5:]), 512, true); err != nil || !bytes.Equal(long, model[512:size-512]) {
		t.Errorf("reading all of it: %v", err)
	}
	if err := r.Zero(512, size-1024, false); err != nil {
		t.Errorf("Zero: %v", err)
	}
	if err := r.writeZeroes(1536, 300*512); err != nil {
		t.Errorf("writeZeroes: %v", err)
	}
	clear(model[512 : size-512])
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, model) {
		t.Errorf("something else is in the file, of %d bytes: %v", len(got), err)
	}
}

// A size that is no multiple of the storage's blocks cannot be read to its end past
// the page cache. On storage with blocks of a sector every disk is.
func TestDirectSize(t *testing.T) {
	path := filepath.Join(".", "testdata-size")
	if err := os.WriteFile(path, make([]byte, 3*512), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	image, err := Open(Config{Path: path, Direct: true})
	if err != nil {
		if !strings.Contains(err.Error(), "cache=none") {
			t.Error(err)
		}
		return
	}
	defer image.Close()
	got := make([]byte, 3*512)
	if err := image.Read(vector(got), 0, true); err != nil {
		t.Error(err)
	}
}

// However much is asked for at once, and by however many, an image takes maxBuffers
// buffers and not more.
func TestBuffers(t *testing.T) {
	r, _ := direct(t, 8<<20, 512)
	m := make([]byte, 8<<20+8)
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			if err := r.Read(vector(make([]byte, 8<<20+8)[8:]), 0, true); err != nil {
				t.Error(err)
			}
		})
	}
	group.Go(func() {
		if err := r.Write(vector(m[8:]), 0, false, true); err != nil {
			t.Error(err)
		}
	})
	group.Wait()
	if n := len(r.buffers); n != maxBuffers {
		t.Errorf("%d buffers came back", n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
