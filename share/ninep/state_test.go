package ninep

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// handOver has a client go on with another server of a folder.
func (c *client) handOver(dir string) {
	c.t.Helper()
	c.Wait()
	text, err := json.Marshal(c.State())
	if err != nil {
		c.t.Fatal(err)
	}
	next := serverOf(c.t, dir, false, share.NewBudget())
	if err := next.SetState(text); err != nil {
		c.t.Fatalf("%v, of %s", err, text)
	}
	c.Server = next
}

// What a client has open is open with another server: by the name that it has by now.
// What has no name any more, or is another file, is stale until the client lets go.
func TestState(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	if err := os.WriteFile(filepath.Join(dir, "gone"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "replaced"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.open(1, unix.O_RDWR, "file")
	c.open(2, unix.O_RDONLY, "sub")
	c.walkTo(3, "sub", "deeper")
	c.open(4, unix.O_RDWR, "gone")
	c.walkTo(5, "replaced")
	c.walkTo(6, "link")
	c.write(1, 0, "before")
	for _, err := range []error{
		os.Remove(filepath.Join(dir, "gone")),
		os.Rename(filepath.Join(dir, "file"), filepath.Join(dir, "sub", "moved")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	state := c.State().(State)
	if n := len(state.FIDs); n != 7 {
		t.Errorf("%d fids; want 7", n)
	}
	before := c.attributes(3).id
	// As when the state lies on a disk for a while.
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "replaced")); err != nil {
		t.Fatal(err)
	}
	next := serverOf(t, dir, false, share.NewBudget())
	if err := next.SetState(text); err != nil {
		t.Fatal(err)
	}
	c.Server = next

	c.write(1, 6, " and after")
	if got := c.read(1, 0, 100); got != "before and after" {
		t.Errorf("the file holds %q", got)
	}
	if after := c.attributes(3).id; after != before {
		t.Errorf("the folder has the number %d, and had %d", after, before)
	}
	for _, fid := range []int{4, 5} {
		c.want(unix.ESTALE, tGetattr, fid, uint64(0x7ff))
		c.must(tClunk, fid)
		c.want(unix.EBADF, tGetattr, fid, uint64(0x7ff))
	}
	if got := c.must(tReadlink, 6).text(); got != "../secret" {
		t.Errorf("the link leads to %q", got)
	}
	c.open(7, unix.O_RDONLY, "sub", "moved")
	c.handOver(dir) // and once more
	if got := c.read(7, 0, 6); got != "before" {
		t.Errorf("the file holds %q", got)
	}
}

// A state from outside leads nowhere but below the folder, and is bounded.
func TestStateIsChecked(t *testing.T) {
	dir, _ := tree(t)
	inode := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	for _, names := range [][]string{
		{"..", "secret"}, {"link"}, {"up", "secret"}, {"absolute", "secret"}, {"sub", "..", "..", "secret"}, {"../secret"}, {"/etc/passwd"}, {""},
		make([]string, maxSteps+1),
	} {
		s := serverOf(t, dir, false, share.NewBudget())
		text, err := json.Marshal(State{MSize: minMessage, FIDs: []FIDState{
			{Number: 1, Found: true, Names: names, Inode: inode(filepath.Join(dir, "..", "secret")), Open: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetState(text); err != nil {
			t.Errorf("%.5q: %v", names, err)
		}
		c := &client{t, s}
		c.want(unix.ESTALE, tRead, 1, uint64(0), 10)
	}
	for _, bad := range []string{
		`{"msize":0}`, `{"msize":4294967295}`, `{"msize":8192,"x":1}`, `17`,
		`{"msize":8192,"fids":[{"number":1},{"number":1}]}`, `{"msize":8192,"fids":[{"number":4294967295}]}`,
	} {
		if err := serverOf(t, dir, false, share.NewBudget()).SetState([]byte(bad)); err == nil {
			t.Errorf("the state %s is taken", bad)
		}
	}
}
