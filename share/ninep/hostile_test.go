package ninep

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// A message that is shorter or longer than its kind has it, at every length, is
// answered with an error, and the server goes on.
func TestCutMessages(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	messages := others()
	maps.Copy(messages, each("name"))
	before := snapshot(t, dir)
	for name, m := range messages {
		c.prepare(unix.O_RDWR)
		for size := range len(m) + 3 {
			if size == len(m) {
				continue
			}
			for _, honest := range []bool{true, false} {
				cut := append(append([]byte{}, m...), 0, 0, 0)[:size]
				if honest && size >= 4 {
					le.PutUint32(cut, uint32(size))
				}
				if !honest && size > len(m) {
					continue // what is behind the message is not of it
				}
				answer := <-c.send(cut, false)
				switch {
				case size < headerSize && len(answer) != 0:
					t.Errorf("%s, %d bytes: an answer to no message: % x", name, size, answer)
				case size >= headerSize && (len(answer) != 11 || answer[4] != rLerror || le.Uint16(answer[5:]) != 1):
					t.Errorf("%s, %d bytes of %d: the answer is % x", name, size, len(m), answer)
				}
			}
		}
	}
	if len(c.pending) > 0 {
		t.Errorf("%d messages are pending", len(c.pending))
	}
	same(t, "the folder", snapshot(t, dir), before)
	c.begin()
}

// Names that are not the name of one entry.
func TestNames(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	before := snapshot(t, filepath.Dir(dir))
	for _, name := range []string{"", ".", "..", "/", "/etc", "a/b", "file/", "../secret", "a\x00b", "up/secret", strings.Repeat("x", 256), strings.Repeat("y", 8000)} {
		for kind, m := range each(name) {
			if kind == "attach" && (strings.Trim(name, "/") == "" || name == "file/") || strings.HasPrefix(kind, "xattr") {
				continue // what is to be attached is a path, and attributes have names of any kind
			}
			c.prepare(unix.O_RDWR)
			if answer := <-c.send(m, false); answer[4] != rLerror {
				t.Errorf("%s with the name %.20q: the answer is % x", kind, name, answer)
			}
		}
	}
	c.begin()
	// The whole of a message is 64 KiB: an answer, and nothing else.
	c.want(unix.EINVAL, tMkdir, 0, strings.Repeat("z", 65000), 0o755, 0)
	// A symbolic link is the client's to follow.
	for _, link := range []string{"link", "up", "absolute"} {
		c.walkTo(7, link)
		c.want(unix.EPERM, tLopen, 7, 0)
		c.must(tClunk, 7)
		if n := c.must(tWalk, 0, 7, uint16(2), link, "secret").half(); n != 1 {
			t.Errorf("%d steps through %s; want 1, to the link", n, link)
		}
	}
	c.walkTo(8, "pipe")
	c.want(unix.EPERM, tLopen, 8, 0)
	same(t, "the folder and what is beside it", snapshot(t, filepath.Dir(dir)), before)
}

// What is done with a symbolic link is done with the link, wherever it leads.
func TestLinksAreNotFollowed(t *testing.T) {
	dir, secret := tree(t)
	c := attach(t, dir, false)
	beside, err := os.Stat(secret)
	if err != nil {
		t.Fatal(err)
	}
	top := inode(t, filepath.Dir(dir))
	for _, link := range []string{"link", "up", "absolute"} {
		c.walkTo(1, link)
		for valid := range uint32(9) {
			err := c.set(1, 1<<valid|givenATime|givenMTime, 0o600, 1)
			if 1<<valid == setSize && err == nil {
				t.Errorf("%s is truncated", link)
			}
		}
		for _, name := range []string{"user.x", ""} {
			if value, err := c.getxattr(2, 1, name); value != "" {
				t.Errorf("%s has the attribute %q: %q, %v", link, name, value, err)
			}
		}
		c.must(tWalk, 1, 3, uint16(0))
		if _, err := c.do(tXattrcreate, 3, "user.x", uint64(1), 0); err == nil {
			c.write(3, 0, "x")
			if _, err := c.do(tClunk, 3); err == nil {
				t.Errorf("%s gets an attribute", link)
			}
		}
		c.must(tLink, 0, 1, link+"2")
		c.walkTo(4, link+"2")
		if a := c.attributes(4); a.mode&unix.S_IFMT != unix.S_IFLNK || a.links != 2 {
			t.Errorf("a link to %s has the mode %#o and %d names", link, a.mode, a.links)
		}
		for _, kind := range []uint8{tLopen, tLcreate, tMkdir} {
			fields := map[uint8][]any{tLopen: {1, 0}, tLcreate: {1, "x", 0, 0, 0}, tMkdir: {1, "x", 0, 0}}[kind]
			if _, err := c.do(kind, fields...); err == nil {
				t.Errorf("message %d succeeds on %s", kind, link)
			}
		}
		c.must(tClunk, 1)
		c.must(tClunk, 4)
		c.must(tUnlinkat, 0, link+"2", 0)
	}
	now, err := os.Stat(secret)
	if err != nil || now.Size() != beside.Size() || now.Mode() != beside.Mode() || !now.ModTime().Equal(beside.ModTime()) {
		t.Errorf("what the links lead to has changed: %v, %v", now, err)
	}
	if n, err := unix.Getxattr(secret, "user.x", make([]byte, 10)); err == nil {
		t.Errorf("what the links lead to has an attribute of %d bytes", n)
	}
	if inode(t, filepath.Dir(dir)) != top {
		t.Error("the folder above is another")
	}
}

// Two guests, of whom one has a folder below the other's: wherever the other moves
// things to, the one does not come out of what it has.
func TestTwoClients(t *testing.T) {
	dir, _ := tree(t)
	outer, inner := attach(t, dir, false), attach(t, filepath.Join(dir, "sub"), false)
	outer.walkTo(1, "sub")
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		for range 300 {
			outer.must(tRenameat, 1, "deeper", 0, "deeper")
			outer.must(tRenameat, 0, "deeper", 1, "deeper")
		}
	}()
	for done := false; !done; {
		select {
		case <-moved:
			done = true
		default:
		}
		if _, err := inner.do(tWalk, 0, 1, uint16(1), "deeper"); err != nil {
			continue
		}
		for _, name := range []string{"..", "file", "../file", "sub", "link"} {
			if _, err := inner.do(tWalk, 1, 2, uint16(1), name); err == nil {
				t.Errorf("%s is reached from below", name)
				inner.must(tClunk, 2)
			}
		}
		for _, name := range []string{"../new", "..", "a/b"} {
			if _, err := inner.do(tRenameat, 0, "deeper", 1, name); err == nil {
				t.Errorf("renamed to %s", name)
			}
		}
		inner.must(tClunk, 1)
	}
}

// Where the guest may only read, whatever it sends changes nothing.
func TestReadOnly(t *testing.T) {
	dir, _ := tree(t)
	if err := unix.Setxattr(filepath.Join(dir, "file"), "user.there", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	c := attach(t, dir, true)
	before := snapshot(t, dir)
	changes := []string{"lcreate", "mkdir", "mknod", "symlink", "link", "rename", "rename from", "unlink", "rmdir", "xattrcreate", "setattr", "lopen"}
	for _, name := range []string{"new", "file", "sub", "link"} {
		messages := each(name)
		maps.Copy(messages, others())
		for _, kind := range changes {
			c.prepare(unix.O_RDONLY)
			answer := <-c.send(messages[kind], false)
			if answer[4] != rLerror || le.Uint32(answer[7:]) != uint32(unix.EROFS) {
				t.Errorf("%s of %s: the answer is % x", kind, name, answer)
			}
		}
	}
	c.prepare(unix.O_RDONLY)
	c.want(unix.EROFS, tLopen, 1, unix.O_RDONLY|unix.O_TRUNC)
	c.want(unix.EROFS, tLopen, 1, unix.O_WRONLY)
	c.want(unix.EROFS, tLopen, 1, 3)
	c.want(unix.EBADF, tWrite, 2, uint64(0), 1, raw("x"))
	for valid := range uint32(9) {
		if err := c.set(2, 1<<valid, 0o777, 0); err != unix.EROFS {
			t.Errorf("setattr %#x of an opened file: %v", 1<<valid, err)
		}
	}
	if got := c.read(2, 0, 100); got != "contents" {
		t.Errorf("read %q", got)
	}
	same(t, "the folder", snapshot(t, dir), before)
}

// forbidden are the entries of a folder that no guest may make.
func forbidden(t testing.TB, dir string) (found []string) {
	t.Helper()
	for _, line := range snapshot(t, dir) {
		var mode uint32
		if f := strings.Fields(line); len(f) > 1 {
			for _, digit := range f[1] {
				mode = mode<<3 | uint32(digit-'0')
			}
		}
		kind := mode & unix.S_IFMT
		if mode&(unix.S_ISUID|unix.S_ISGID) != 0 || kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			found = append(found, line)
		}
	}
	return found
}

// Set-user-ID bits and devices never come to the host, not even for a moment or
// when something fails on the way.
func TestNoPrivilegedFiles(t *testing.T) {
	for _, left := range []int64{0, 1, 2, 3, 100} {
		dir, _ := tree(t)
		budget := share.NewBudget()
		c := &client{t, serverOf(t, dir, false, budget)}
		c.prepare(unix.O_RDWR)
		// Nearly all descriptors are used up, so that each step fails in turn.
		release := budget.Reserve(left)
		for kind, m := range each("new") {
			if strings.HasPrefix(kind, "rename") {
				continue
			}
			<-c.send(m, false)
			if found := forbidden(t, dir); found != nil {
				t.Errorf("%d descriptors left, %s: %q", left, kind, found)
			}
			os.RemoveAll(filepath.Join(dir, "new"))
			os.RemoveAll(filepath.Join(dir, "sub", "new"))
		}
		for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFCHR | unix.S_ISUID, unix.S_IFDIR, 0xf000} {
			if _, err := c.do(tMknod, 0, "device", kind|0o666, 1, 3, 0); err == nil {
				t.Errorf("mknod of %#o succeeds", kind)
			}
		}
		release()
		c.prepare(unix.O_RDWR)
		for _, mode := range []int{0o4755, 0o2755, 0o6777, 0o106777} {
			for _, fid := range []int{1, 2, 4} {
				if err := c.set(fid, setMode, mode, 0); err != nil {
					t.Error(err)
				}
			}
		}
		if found := forbidden(t, dir); found != nil {
			t.Errorf("%q", found)
		}
	}
}

// Pipes, sockets and devices of the host's are there to be seen, and not to be opened:
// no program at the other end of one hears of the guest.
func TestSpecialFiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "share") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	pipe, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	if err := unix.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	names := []string{"pipe", "socket"}
	for name, mode := range map[string]uint32{"null": unix.S_IFCHR, "loop": unix.S_IFBLK} {
		if unix.Mknod(filepath.Join(dir, name), mode|0o666, int(unix.Mkdev(1, 3))) == nil { // as root
			names = append(names, name)
		}
	}
	reader, err := os.OpenFile(pipe, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	c := attach(t, dir, false)

	for _, name := range names {
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_TRUNC, unix.O_RDONLY | unix.O_NONBLOCK, unix.O_PATH} {
			c.walkTo(1, name)
			c.want(unix.EPERM, tLopen, 1, flags)
			c.must(tClunk, 1)
			c.walkTo(1)
			if _, err := c.do(tLcreate, 1, name, flags|unix.O_CREAT, 0o666, 0); err == nil {
				t.Errorf("%s is opened as a file that is created", name)
			}
			c.must(tClunk, 1)
		}
	}

	if n, err := reader.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the pipe's reader has %d bytes, %v: somebody has opened the other end", n, err)
	}
	if err := listener.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := listener.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("somebody has connected to the socket: %v", err)
	}
}

// A program of the host's that has its owner's rights loses them when a guest may
// have written to it.
func TestWriteTakesSetID(t *testing.T) {
	dir, _ := tree(t)
	path := filepath.Join(dir, "file")
	c := attach(t, dir, false)
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC, unix.O_RDWR | unix.O_CREAT} {
		if err := unix.Chmod(path, 0o6755); err != nil {
			t.Fatal(err)
		}
		c.open(1, unix.O_RDONLY, "file")
		if got := c.attributes(1).mode; got != 0o106755 {
			t.Errorf("after opening to read: mode %#o", got)
		}
		c.must(tClunk, 1)
		if flags&unix.O_CREAT != 0 {
			c.walkTo(1)
			c.must(tLcreate, 1, "file", flags, 0o6777, 0)
		} else {
			c.open(1, flags, "file")
		}
		if got := c.attributes(1).mode; got != 0o100755 {
			t.Errorf("after opening with %#o: mode %#o", flags, got)
		}
		c.must(tClunk, 1)
	}
}

// Tflush waits for what it names, and for nothing else.
func TestFlush(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	at := func(tag uint16, old uint16) []byte { return encode(tFlush, tag, old) }
	answered := func(what string, answer chan []byte, tag uint16) {
		t.Helper()
		select {
		case b := <-answer:
			if len(b) != headerSize || b[4] != tFlush+1 || le.Uint16(b[5:]) != tag {
				t.Errorf("%s: the answer is % x", what, b)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no answer", what)
		}
	}
	answered("its own tag", c.send(at(1, 1), false), 1)
	answered("a tag that nobody has", c.send(at(1, 77), false), 1)
	first, second := c.send(at(1, 2), false), c.send(at(2, 1), false)
	answered("the first of two that name each other", first, 1)
	answered("the second", second, 2)

	// A message that takes its time: one of the test's own.
	var order []uint16
	slow := &call{server: c.Server, done: func(int) { order = append(order, 9) }}
	slow.kind, slow.tag = tFsync, 9
	c.pending[9] = slow
	note := func(tag uint16, old uint16) {
		out := make([]byte, 100)
		c.Handle([][]byte{at(tag, old)}, [][]byte{out}, false, func(n int) {
			if n != headerSize || out[4] != tFlush+1 {
				t.Errorf("the answer to flush %d is % x", tag, out[:n])
			}
			order = append(order, tag)
		})
	}
	note(1, 9)
	note(2, 1)
	note(3, 9)
	if len(order) != 0 {
		t.Errorf("%v are answered before what they wait for", order)
	}
	answer := <-c.send(encode(tGetattr, 9, 0, uint64(0)), false)
	if answer[4] != rLerror || le.Uint32(answer[7:]) != uint32(unix.EINVAL) {
		t.Errorf("a second message with a tag: % x", answer)
	}
	c.mu.Lock()
	c.finish(slow, 0)
	c.mu.Unlock()
	if want := []uint16{9, 1, 2, 3}; len(order) != 4 || order[0] != want[0] || order[1] != want[1] || order[2] != want[2] || order[3] != want[3] {
		t.Errorf("answered in the order %v; want %v", order, want)
	}
	if len(c.pending) != 0 {
		t.Errorf("%d messages are pending", len(c.pending))
	}
}

// Messages of all kinds at once, for the same few fids and tags, with new sessions
// among them: for the race detector. At rest, every descriptor is closed.
func TestStorm(t *testing.T) {
	dir, _ := tree(t)
	storm(t, dir, 1, 5_000)
}

func storm(t testing.TB, dir string, seed uint64, rounds int) {
	t.Helper()
	descriptors := openDescriptors(t)
	budget := share.NewBudget()
	folder, err := share.Open(dir, false, budget)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, New(folder)}
	c.prepare(unix.O_RDWR)
	random := rand.New(rand.NewPCG(seed, 0))
	names := []string{"file", "sub", "new", "a", "link", "pipe", ".."}
	var kinds []string
	for kind := range each("") {
		kinds = append(kinds, kind)
	}
	for kind := range others() {
		kinds = append(kinds, kind)
	}
	var running sync.WaitGroup
	for range rounds {
		kind := kinds[random.IntN(len(kinds))]
		m := each(names[random.IntN(len(names))])[kind]
		if m == nil {
			m = others()[kind]
		}
		if kind == "version" && random.IntN(10) > 0 {
			m = encode(tAttach, 1, 0, uint32(noFID), "root", "", 0)
		}
		le.PutUint16(m[5:], uint16(random.IntN(40)))
		if len(m) > 11 && random.IntN(2) == 0 && kind != "version" {
			le.PutUint32(m[7:], uint32(random.IntN(12)))
		}
		if len(m) > 15 && random.IntN(4) == 0 && strings.HasSuffix(kind, "walk") {
			le.PutUint32(m[11:], uint32(random.IntN(12)))
		}
		answer := c.send(m, true)
		running.Go(func() {
			if b := <-answer; len(b) < headerSize {
				t.Errorf("%s: an answer of %d bytes", kind, len(b))
			}
		})
	}
	c.Reset()
	running.Wait()
	if n := budget.Descriptors(); n != 1 { // the folder's own
		t.Errorf("%d descriptors are counted at rest", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n := budget.Descriptors(); n != 0 {
		t.Errorf("%d descriptors are counted after all", n)
	}
	if n := openDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors are open; there were %d", n, descriptors)
	}
	if found := forbidden(t, dir); found != nil {
		t.Errorf("%q", found)
	}
}

// Many try to open one fid, at once. One succeeds, and no descriptor is left.
func TestOpenAtOnce(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	for range 50 {
		c.walkTo(1, "file")
		before := c.folder.Budget().Descriptors()
		var opening sync.WaitGroup
		results := make(chan byte, 16)
		for range cap(results) {
			opening.Go(func() { // not through Handle, which is for one
				call := &call{server: c.Server, session: c.session}
				message := encode(tLopen, 1, 1, unix.O_RDWR)
				room := make([]byte, 100)
				call.in, call.room = [][]byte{message}, [][]byte{room}
				call.receive()
				call.answer()
				results <- room[4]
			})
		}
		opening.Wait()
		opened := 0
		for range cap(results) {
			if <-results == tLopen+1 {
				opened++
			}
		}
		if n := c.folder.Budget().Descriptors(); opened != 1 || n != before {
			t.Errorf("%d of %d opened it; %d descriptors, before %d", opened, cap(results), n, before)
		}
		c.must(tClunk, 1)
	}
}

// FuzzServer has arbitrary messages, one behind the other, on a folder.
func FuzzServer(f *testing.F) {
	for _, m := range others() {
		f.Add(m)
	}
	for _, m := range each("new") {
		f.Add(append(encode(tAttach, 1, 0, uint32(noFID), "root", "", 0), m...))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		dir, _ := tree(t)
		budget := share.NewBudget()
		c := &client{t, serverOf(t, dir, false, budget)}
		c.prepare(unix.O_RDWR)
		beside := snapshot(t, filepath.Join(filepath.Dir(dir), "secret"))
		for len(script) > 0 {
			size := len(script)
			if len(script) >= 4 {
				size = min(max(int(le.Uint32(script)&0xffff), 1), size)
			}
			answer := <-c.send(script[:size:size], size&1 == 0)
			if len(answer) > 0 && (len(answer) < headerSize || int(le.Uint32(answer)) != len(answer)) {
				t.Errorf("the answer to % x is % x", script[:size], answer)
			}
			script = script[size:]
		}
		if found := forbidden(t, dir); found != nil {
			t.Errorf("%q", found)
		}
		same(t, "what is beside the folder", snapshot(t, filepath.Join(filepath.Dir(dir), "secret")), beside)
	})
}
