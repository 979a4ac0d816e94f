package memory

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// sealed is a sealed memory file with contents.
func sealed(t *testing.T, contents []byte) *os.File {
	t.Helper()
	f := memfd(t, contents)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, Seals); err != nil {
		t.Fatal(err)
	}
	return f
}

func memfd(t *testing.T, contents []byte) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(contents); err != nil {
		t.Fatal(err)
	}
	return f
}

// A mapped file is the guest's memory, which the guest can write to; the file
// stays as it is.
func TestMapFile(t *testing.T) {
	contents := bytes.Repeat([]byte("0123456789abcdef"), 4*PageSize/16)
	f := sealed(t, contents)
	g := newGuest(t, Range{0, 16 * PageSize})
	if err := g.MapFile(4*PageSize, f, PageSize, 2*PageSize); err != nil {
		t.Fatal(err)
	}
	if err := g.MapFile(8*PageSize, f, 0, PageSize); err != nil {
		t.Fatal(err)
	}
	all, err := g.Slice(0, 16*PageSize)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 16*PageSize)
	copy(want[4*PageSize:], contents[PageSize:3*PageSize])
	copy(want[8*PageSize:], contents[:PageSize])
	if !bytes.Equal(all, want) {
		t.Error("memory does not hold the file")
	}
	copy(all[4*PageSize:], "written by the guest")
	got := make([]byte, len(contents))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, contents) {
		t.Errorf("the file has changed (%v)", err)
	}
	for _, bad := range [][3]uint64{{1, 0, PageSize}, {0, 1, PageSize}, {0, 0, 1}, {16 * PageSize, 0, PageSize}} {
		if err := g.MapFile(bad[0], f, int64(bad[1]), bad[2]); err == nil {
			t.Errorf("MapFile%v succeeds", bad)
		}
	}
	ordinary, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer ordinary.Close()
	for _, f := range []*os.File{memfd(t, contents), ordinary} {
		if err := g.MapFile(0, f, 0, PageSize); err == nil {
			t.Errorf("MapFile takes %s, which is not sealed", f.Name())
		}
	}
}

// What is given back of a mapped file is zero, in pieces of any size.
func TestDiscardMapped(t *testing.T) {
	f := sealed(t, bytes.Repeat([]byte("contents"), 256*PageSize/8))
	g := newGuest(t, Range{0, 256 * PageSize})
	if err := g.MapFile(0, f, 0, 256*PageSize); err != nil {
		t.Fatal(err)
	}
	all, err := g.Slice(0, 256*PageSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int{{1, 1}, {10, 63}, {100, 64}} {
		if err := g.Discard(all[r[0]*PageSize:][:r[1]*PageSize]); err != nil {
			t.Error(err)
		}
	}
	for page := range 256 {
		zero := page == 1 || page >= 10 && page < 73 || page >= 100 && page < 164
		if b := all[page*PageSize]; (b == 0) != zero {
			t.Errorf("page %d begins with %d", page, b)
		}
	}
}
