package memory

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// saved saves a guest's memory to a new file.
func saved(t testing.TB, g *Guest) (*os.File, []uint32) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "memory"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	sums, err := g.Save(f, openPagemap(t))
	if err != nil {
		t.Fatal(err)
	}
	return f, sums
}

func openPagemap(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// fromFile is memory that begins with a file.
func fromFile(t testing.TB, f *os.File, ranges ...Range) *Guest {
	t.Helper()
	g, err := New(ranges, Options{File: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// Memory that is saved and mapped again is the same, whatever was written, discarded
// and mapped before, and so is that which is saved from there.
func TestSave(t *testing.T) {
	const size = 10 << 20 // whole chunks, as of all regions but the last
	ranges := []Range{{0, size}, {HoleEnd, ChunkSize}}
	g := newGuest(t, ranges...)
	want := make([]byte, size+ChunkSize)
	random := rand.New(rand.NewPCG(1, 2))
	write := func(g *Guest) {
		for range 40 {
			at := random.IntN(size + ChunkSize - 5000)
			piece := make([]byte, random.IntN(5000))
			for i := range piece {
				piece[i] = byte(random.Uint32())
			}
			gpa := uint64(at)
			if at >= size {
				gpa = HoleEnd + uint64(at-size)
			} else if at+len(piece) > size {
				continue
			}
			if _, err := g.WriteAt(piece, int64(gpa)); err != nil {
				t.Fatal(err)
			}
			copy(want[at:], piece)
		}
	}
	discard := func(g *Guest, gpa, n uint64) {
		s, err := g.Slice(gpa, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Discard(s); err != nil {
			t.Fatal(err)
		}
		clear(want[gpa : gpa+n])
	}
	for i := range 4 {
		write(g)
		discard(g, uint64(i)<<20, 1<<20)
		discard(g, 5<<20, PageSize)
		f, sums := saved(t, g)
		got, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("generation %d: the file holds something else", i)
		}
		for k, sum := range sums {
			if part := want[k*ChunkSize : min((k+1)*ChunkSize, len(want))]; Sum(part) != sum {
				t.Errorf("generation %d: the checksum of chunk %d is %#x; want %#x", i, k, sum, Sum(part))
			}
		}
		if n := (len(want) + ChunkSize - 1) / ChunkSize; len(sums) != n {
			t.Errorf("generation %d: %d checksums; want %d", i, len(sums), n)
		}
		g = fromFile(t, f, ranges...)
	}
}

// What nobody has touched takes no room, neither in the file nor, of a file that has
// been mapped, in memory.
func TestSaveIsSparse(t *testing.T) {
	const size = 256 << 20
	g := newGuest(t, Range{0, size})
	if _, err := g.WriteAt([]byte("x"), 100<<20); err != nil {
		t.Fatal(err)
	}
	f, _ := saved(t, g)
	blocks := func(f *os.File) int64 {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	if n := blocks(f); n > 64<<10 {
		t.Errorf("a page takes %d bytes", n)
	}
	again := fromFile(t, f, Range{0, size})
	second, _ := saved(t, again)
	if n := blocks(second); n > 64<<10 {
		t.Errorf("saved again, a page takes %d bytes", n)
	}
	counts, err := again.Resident(openPagemap(t), 0, size, size)
	if err != nil || counts[0] > 2*ChunkSize/PageSize {
		t.Errorf("%d pages were read to save one, %v", counts[0], err)
	}
}

// What a guest writes stays its own.
func TestFileIsPrivate(t *testing.T) {
	g := newGuest(t, Range{0, ChunkSize})
	if _, err := g.WriteAt([]byte("as saved"), 0); err != nil {
		t.Fatal(err)
	}
	f, _ := saved(t, g)
	a, b := fromFile(t, f, Range{0, ChunkSize}), fromFile(t, f, Range{0, ChunkSize})
	if _, err := a.WriteAt([]byte("changed "), 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 8)
	if _, err := b.ReadAt(got, 0); err != nil || string(got) != "as saved" {
		t.Errorf("another machine sees %q, %v", got, err)
	}
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "as saved" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}
