package ninep

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// held is vmm's memory, after what is not needed has been given up.
func held() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// perFID is what a fid may cost vmm, in bytes: see docs/security.md.
const perFID = 400

// The memory that a guest makes a share hold is that of the fids that its budget
// allows, and none comes with messages that fail.
func TestMemory(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	before := held()
	const n = 5000
	for i := range n {
		c.open(10+i, unix.O_RDWR, "file")
	}
	if each := (held() - before) / n; each > perFID {
		t.Errorf("a fid takes %d bytes; want no more than %d", each, perFID)
	} else {
		t.Logf("a fid of an opened file takes %d bytes", each)
	}
	for i := range n {
		c.must(tClunk, 10+i)
	}
	c.begin()
	before = held()
	for i := range 20_000 {
		name := fmt.Sprintf("no-such-name-%d", i)
		for _, kind := range []string{"unlink", "walk", "rename from", "xattrwalk"} {
			<-c.send(each(name)[kind], false)
		}
	}
	if now := held(); now > before+1<<20 {
		t.Errorf("%d KiB are held after messages that fail", (now-before)>>10)
	}
}

// Extended attributes that are never read or written to the end.
func TestAttributeLimit(t *testing.T) {
	dir, _ := tree(t)
	if err := unix.Setxattr(filepath.Join(dir, "file"), "user.big", make([]byte, 3000), 0); err != nil {
		t.Fatal(err)
	}
	c := attach(t, dir, false)
	c.walkTo(1, "file")
	before := held()
	made := 0
	for fid := 10; ; fid++ {
		_, err := c.do(tXattrwalk, 1, fid, []string{"user.big", ""}[fid&1])
		if err == nil {
			c.must(tWalk, 1, 100_000+fid, uint16(0))
			_, err = c.do(tXattrcreate, 100_000+fid, "user.new", uint64(share.MaxAttribute), 0)
		}
		if err == unix.ENOMEM {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if made++; made > 10_000 {
			t.Fatal("there is no end")
		}
	}
	if now := held(); now > before+2*share.MaxAttributeBytes {
		t.Errorf("%d KiB are held", (now-before)>>10)
	}
	c.begin()
	c.walkTo(1, "file")
	c.must(tXattrwalk, 1, 2, "user.big")
}

// TestAttack is TestStorm for as long as VMM_ATTACK says ("5m"), with new seeds. It
// ends with the first round after which something is left behind.
func TestAttack(t *testing.T) {
	duration, err := time.ParseDuration(os.Getenv("VMM_ATTACK"))
	if err != nil {
		t.Skip("VMM_ATTACK says for how long")
	}
	goroutines := runtime.NumGoroutine()
	var first uint64
	for seed, end := uint64(time.Now().UnixNano()), time.Now().Add(duration); time.Now().Before(end) && !t.Failed(); seed++ {
		t.Logf("seed %d", seed)
		dir, _ := tree(t)
		storm(t, dir, seed, 20_000)
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines; there were %d", n, goroutines)
		}
		now := held()
		if first == 0 {
			first = now
		}
		if now > first+4<<20 {
			t.Errorf("%d KiB are held; after the first round %d", now>>10, first>>10)
		}
	}
}
