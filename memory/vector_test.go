package memory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVector(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	var v Vector
	v.Set([][]byte{[]byte("hello"), nil, []byte(", "), []byte("vector")})
	v.Skip(1)
	if n, err := v.Pwritev(fd, 4, 0); n != 12 || err != nil {
		t.Fatalf("Pwritev = %d, %v", n, err)
	}
	a, b := make([]byte, 3), make([]byte, 20)
	v.Set([][]byte{a, b})
	if n, err := v.Preadv(fd, 4, 0); n != 12 || err != nil {
		t.Fatalf("Preadv = %d, %v", n, err)
	}
	if got := string(a) + string(b[:9]); got != "ello, vector" {
		t.Errorf("read %q", got)
	}
	v.Skip(22)
	if v.Empty() {
		t.Error("empty with a byte left")
	}
	v.Skip(1)
	if !v.Empty() {
		t.Error("not empty")
	}
	if n, err := v.Preadv(fd, 0, 0); n != 0 || err != nil {
		t.Errorf("of nothing: %d, %v", n, err)
	}
	v.Set([][]byte{a, b})
	for _, n := range []uint64{50, 23, 10, 3, 0} {
		v.Truncate(n)
		if got := v.Len(); got != min(int(n), 23) {
			t.Errorf("%d bytes left of %d", got, n)
		}
	}
	v.Set([][]byte{a})
	if _, err := v.Readv(-1); err == nil {
		t.Error("reading from no file succeeds")
	}
}

// More pieces than a system call takes are dealt with in several.
func TestVectorOfMany(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var v Vector
	for range 3000 {
		v.Add([][]byte{[]byte("ab")})
	}
	for !v.Empty() {
		n, err := v.Writev(int(f.Fd()))
		if err != nil || n == 0 {
			t.Fatalf("Writev = %d, %v", n, err)
		}
		v.Skip(n)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || string(got) != strings.Repeat("ab", 3000) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
