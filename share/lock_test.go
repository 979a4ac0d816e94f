package share

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// folder returns a folder that has a file "file", and the budget that it counts in.
func folder(t testing.TB, dir string, readOnly bool, b *Budget) *Folder {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("contents"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := b.Descriptors()
	f, err := Open(dir, readOnly, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if b.descriptors.used.Load() != before || b.locks.used.Load() != 0 || b.bytes.used.Load() != 0 {
			t.Errorf("left: %d descriptors, %d locks, %d bytes", b.descriptors.used.Load(), b.locks.used.Load(), b.bytes.used.Load())
		}
	})
	return f
}

// file opens an entry of the folder.
func file(t testing.TB, f *Folder, name string, flags int) *File {
	t.Helper()
	n, _, err := f.root.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	opened, _, err := n.Open(flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return opened
}

// held is the kind of lock that keeps somebody else from writing to the whole file.
func held(t testing.TB, path string) int16 {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
		t.Fatal(err)
	}
	return l.Type
}

func TestLocks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	f := folder(t, dir, false, newBudget(100, 100, 0, 1))
	one, two := file(t, f, "file", unix.O_RDWR), file(t, f, "file", unix.O_RDONLY)
	steps := []struct {
		file *File
		lock Lock
		want error
	}{
		{one, Lock{unix.F_WRLCK, 0, 10}, nil},
		{two, Lock{unix.F_RDLCK, 5, 1}, unix.EAGAIN},
		{two, Lock{unix.F_RDLCK, 10, 0}, nil},
		{one, Lock{unix.F_WRLCK, 20, 1}, unix.EAGAIN},
		{one, Lock{unix.F_UNLCK, 0, 0}, nil},
		// As flock(2) has it, of a file that is open for reading.
		{two, Lock{unix.F_WRLCK, 0, 0}, nil},
		{one, Lock{unix.F_RDLCK, 0, 0}, unix.EAGAIN},
		{two, Lock{unix.F_UNLCK, 0, 0}, nil},
		{one, Lock{unix.F_RDLCK, 0, math.MaxInt64}, nil},
		{one, Lock{unix.F_RDLCK, math.MaxInt64, 2}, unix.EINVAL},
		{one, Lock{unix.F_RDLCK, -1, 2}, unix.EINVAL},
		{one, Lock{unix.F_RDLCK, 1, -2}, unix.EINVAL},
		{one, Lock{77, 0, 0}, unix.EINVAL},
	}
	for i, s := range steps {
		if err := s.file.SetLock(s.lock); err != s.want {
			t.Errorf("step %d, %+v: %v; want %v", i, s.lock, err, s.want)
		}
	}
	if l, err := two.GetLock(Lock{unix.F_WRLCK, 5, 1}); err != nil || l.Type != unix.F_RDLCK {
		t.Errorf("what keeps it from being locked is %+v, %v", l, err)
	}
	if held(t, path) != unix.F_RDLCK {
		t.Error("the host does not see the lock")
	}
	// A clone of an opened file does not keep its locks.
	clone, err := one.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer clone.Close()
	third := file(t, f, "file", unix.O_RDWR)
	if err := third.SetLock(Lock{unix.F_RDLCK, 0, 1}); err != nil {
		t.Error(err)
	}
}

// The locks of all files are bounded together, and closing gives them back.
func TestLockLimit(t *testing.T) {
	const limit = 50
	f := folder(t, t.TempDir(), false, newBudget(100, limit, 0, 1))
	take := func() (file *File, n int) {
		root, err := f.Root()
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		file, _, err = root.Create("file", unix.O_RDWR, 0o644, Owner{})
		if err != nil {
			t.Fatal(err)
		}
		for ; ; n++ {
			if err := file.SetLock(Lock{unix.F_RDLCK, int64(2 * n), 1}); err != nil {
				if err != unix.ENOLCK {
					t.Errorf("lock %d: %v", n, err)
				}
				return file, n
			}
		}
	}
	one, n := take()
	two, none := take()
	if n != limit || none != 0 {
		t.Errorf("%d and %d locks; want %d and none", n, none, limit)
	}
	// What takes no more of them still works.
	if err := one.SetLock(Lock{unix.F_WRLCK, 0, 1}); err != nil {
		t.Error(err)
	}
	if err := one.SetLock(Lock{unix.F_UNLCK, 0, 0}); err != nil {
		t.Error(err)
	}
	if err := two.SetLock(Lock{unix.F_RDLCK, 0, 1}); err != nil {
		t.Error(err)
	}
	one.Close()
	two.Close()
}

// A guest that may only read sees locks, and takes none.
func TestLocksReadOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	f := folder(t, dir, true, newBudget(100, 100, 0, 1))
	opened := file(t, f, "file", unix.O_RDONLY)
	for _, kind := range []int16{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK} {
		if err := opened.SetLock(Lock{kind, 0, 0}); err != nil {
			t.Error(err)
		}
		if got := held(t, path); got != unix.F_UNLCK {
			t.Errorf("the guest holds a lock of kind %d", got)
		}
	}
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if err := opened.SetLock(Lock{unix.F_RDLCK, 0, 0}); err != unix.EAGAIN {
		t.Errorf("a lock that the host has: %v", err)
	}
}

// The ranges are those of bytes that have been locked one by one.
func TestLockSpans(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var spans []span
		var bytes [40]int16
		for i := range bytes {
			bytes[i] = unix.F_UNLCK
		}
		for range 30 {
			start := random.Int64N(40)
			s := span{start, start + random.Int64N(40-start), []int16{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK}[random.IntN(3)]}
			spans = lockSpan(spans, s)
			for i := s.start; i <= s.end; i++ {
				bytes[i] = s.kind
			}
			var got [40]int16
			for i := range got {
				got[i] = unix.F_UNLCK
			}
			for i, s := range spans {
				for at := s.start; at <= s.end; at++ {
					got[at] = s.kind
				}
				if i > 0 && (spans[i-1].end >= s.start || spans[i-1].end == s.start-1 && spans[i-1].kind == s.kind) {
					t.Fatalf("%+v overlap, or are neighbours", spans)
				}
			}
			if got != bytes {
				t.Fatalf("%+v: %v; want %v", spans, got, bytes)
			}
		}
	}
}
