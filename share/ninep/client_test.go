package ninep

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// client is a client of a server, that sends what a test says.
type client struct {
	t testing.TB
	*Server
}

// raw are bytes of a message that are no string of the protocol's.
type raw []byte

// encode is a message. The size in its header is right.
func encode(kind uint8, tag uint16, fields ...any) []byte {
	c := &call{reply: make([]byte, 4, 100)}
	c.byte(kind)
	c.half(tag)
	for _, f := range fields {
		switch v := f.(type) {
		case uint8:
			c.byte(v)
		case uint16:
			c.half(v)
		case int: // most fields are of 32 bits
			c.word(uint32(v))
		case uint32:
			c.word(v)
		case uint64:
			c.long(v)
		case string:
			c.text(v)
		case raw:
			c.reply = append(c.reply, v...)
		default:
			panic(fmt.Sprintf("a field of type %T", f))
		}
	}
	le.PutUint32(c.reply, uint32(len(c.reply)))
	return c.reply
}

// serverOf returns the server of a folder.
func serverOf(t testing.TB, dir string, readOnly bool, budget *share.Budget) *Server {
	t.Helper()
	folder, err := share.Open(dir, readOnly, budget)
	if err != nil {
		t.Fatal(err)
	}
	s := New(folder)
	t.Cleanup(func() {
		s.Reset()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := budget.Descriptors(); n != 0 {
			t.Errorf("%d descriptors are left", n)
		}
	})
	return s
}

// attach returns a client of a folder's server. Its fid 0 is the folder.
func attach(t testing.TB, dir string, readOnly bool) *client {
	t.Helper()
	c := &client{t, serverOf(t, dir, readOnly, share.NewBudget())}
	c.begin()
	return c
}

func (c *client) begin() {
	c.t.Helper()
	c.must(tVersion, 1<<20, version)
	c.must(tAttach, 0, uint32(noFID), "root", "", 0)
}

// send sends a message without waiting: the answer comes over the channel.
func (c *client) send(message []byte, more bool) chan []byte {
	out := make([]byte, 64<<10)
	answer := make(chan []byte, 1)
	c.Handle([][]byte{message}, [][]byte{out[:5], out[5:]}, more, func(n int) { answer <- out[:n] })
	return answer
}

// do sends a message, and returns the body of the answer.
func (c *client) do(kind uint8, fields ...any) (*decoder, error) {
	c.t.Helper()
	d := &decoder{rest: <-c.send(encode(kind, 1, fields...), false)}
	h := d.header()
	if d.short || h.tag != 1 || int(h.size) != len(d.rest)+headerSize {
		c.t.Fatalf("message %d: the answer has the header %+v and %d bytes", kind, h, len(d.rest))
	}
	if h.kind == rLerror {
		return nil, unix.Errno(d.word())
	}
	if h.kind != kind+1 {
		c.t.Fatalf("message %d: the answer is of kind %d", kind, h.kind)
	}
	return d, nil
}

// must is do for a message that is to succeed.
func (c *client) must(kind uint8, fields ...any) *decoder {
	c.t.Helper()
	d, err := c.do(kind, fields...)
	if err != nil {
		c.t.Fatalf("message %d %v: %v", kind, fields, err)
	}
	return d
}

// want sends a message that is to fail.
func (c *client) want(errno unix.Errno, kind uint8, fields ...any) {
	c.t.Helper()
	if _, err := c.do(kind, fields...); err != errno {
		c.t.Errorf("message %d %.100v: %v; want %v", kind, fields, err, errno)
	}
}

// walkTo makes a fid of what is below the folder.
func (c *client) walkTo(fid int, names ...string) {
	c.t.Helper()
	fields := []any{0, fid, uint16(len(names))}
	for _, name := range names {
		fields = append(fields, name)
	}
	if n := c.must(tWalk, fields...).half(); int(n) != len(names) {
		c.t.Fatalf("walk to %v: %d steps", names, n)
	}
}

// open makes a fid of a file and opens it.
func (c *client) open(fid, flags int, names ...string) {
	c.t.Helper()
	c.walkTo(fid, names...)
	c.must(tLopen, fid, flags)
}

func (c *client) read(fid int, offset uint64, count int) string {
	c.t.Helper()
	d := c.must(tRead, fid, offset, count)
	return string(d.take(int(d.word())))
}

func (c *client) write(fid int, offset uint64, data string) {
	c.t.Helper()
	if n := c.must(tWrite, fid, offset, len(data), raw(data)).word(); int(n) != len(data) {
		c.t.Errorf("%d bytes are written; want %d", n, len(data))
	}
}

// attributes are those of a Tgetattr that tests look at.
type attributes struct {
	mode, uid, gid uint32
	links, size    uint64
	id             uint64
}

func (c *client) attributes(fid int) attributes {
	c.t.Helper()
	d := c.must(tGetattr, fid, uint64(0x7ff))
	d.take(8 + 5)
	a := attributes{id: d.long(), mode: d.word(), uid: d.word(), gid: d.word(), links: d.long()}
	d.long()
	a.size = d.long()
	return a
}

// set sends a Tsetattr.
func (c *client) set(fid int, valid uint32, mode, size int) error {
	c.t.Helper()
	_, err := c.do(tSetattr, fid, valid, mode, 0, 0, uint64(size), uint64(1), uint64(2), uint64(3), uint64(4))
	return err
}

// tree is a folder "shared" with something in it, beside a file that is not shared.
func tree(t testing.TB) (dir, secret string) {
	t.Helper()
	top := t.TempDir()
	dir, secret = filepath.Join(top, "shared"), filepath.Join(top, "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.MkdirAll(filepath.Join(dir, "sub", "deeper"), 0o755),
		os.WriteFile(filepath.Join(dir, "file"), []byte("contents"), 0o644),
		os.Symlink("../secret", filepath.Join(dir, "link")),
		os.Symlink("..", filepath.Join(dir, "up")),
		os.Symlink(top, filepath.Join(dir, "absolute")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, secret
}

// snapshot is all that there is below a folder, to compare.
func snapshot(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d %d %v %v", path, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, st.Rdev)
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			text, err := io.ReadAll(io.LimitReader(f, 100)) // it may be large, and sparse
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %q", st.Size, text)
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%q\nwant\n%q", what, got, want)
	}
}

// each is a message of each kind that names things, sensible or not. Fid 0 is the
// folder, 1 the file, 2 the file opened, 3 the folder opened, 4 "sub", 9 nothing.
func each(name string) map[string][]byte {
	return map[string][]byte{
		"attach":      encode(tAttach, 1, 9, uint32(noFID), "root", name, 0),
		"walk":        encode(tWalk, 1, 0, 9, uint16(1), name),
		"lcreate":     encode(tLcreate, 1, 4, name, unix.O_RDWR, 0o6755, 0),
		"mkdir":       encode(tMkdir, 1, 0, name, 0o6755, 0),
		"mknod":       encode(tMknod, 1, 0, name, 0o106755, 0, 0, 0),
		"symlink":     encode(tSymlink, 1, 0, name, "target", 0),
		"link":        encode(tLink, 1, 0, 1, name),
		"rename":      encode(tRenameat, 1, 0, "file", 0, name),
		"rename from": encode(tRenameat, 1, 0, name, 0, "new"),
		"unlink":      encode(tUnlinkat, 1, 0, name, 0),
		"rmdir":       encode(tUnlinkat, 1, 0, name, unix.AT_REMOVEDIR),
		"xattrwalk":   encode(tXattrwalk, 1, 1, 9, "user."+name),
		"xattrcreate": encode(tXattrcreate, 1, 4, "user."+name, uint64(1), 0),
	}
}

// others are messages of the other kinds.
func others() map[string][]byte {
	return map[string][]byte{
		"version":  encode(tVersion, 1, 8192, version),
		"flush":    encode(tFlush, 1, uint16(5)),
		"clunk":    encode(tClunk, 1, 1),
		"remove":   encode(tRemove, 1, 1),
		"getattr":  encode(tGetattr, 1, 1, uint64(math.MaxUint64)),
		"setattr":  encode(tSetattr, 1, 1, 0xffff, 0o6777, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0)),
		"statfs":   encode(tStatfs, 1, 1),
		"readlink": encode(tReadlink, 1, 1),
		"lopen":    encode(tLopen, 1, 1, unix.O_RDWR|unix.O_TRUNC),
		"read":     encode(tRead, 1, 2, uint64(0), 100),
		"write":    encode(tWrite, 1, 2, uint64(0), 5, raw("hello")),
		"readdir":  encode(tReaddir, 1, 3, uint64(0), 4000),
		"fsync":    encode(tFsync, 1, 2, 0),
		"lock":     encode(tLock, 1, 2, uint8(1), 0, uint64(0), uint64(0), 1, "guest"),
		"getlock":  encode(tGetlock, 1, 2, uint8(1), uint64(0), uint64(0), 1, "guest"),
	}
}

// prepare makes the fids that each and others name.
func (c *client) prepare(flags int) {
	c.t.Helper()
	c.begin()
	c.walkTo(1, "file")
	c.open(2, flags, "file")
	c.open(3, unix.O_RDONLY)
	c.walkTo(4, "sub")
}

// openDescriptors is how many descriptors this process has.
func openDescriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
