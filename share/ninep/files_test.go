package ninep

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadAndWrite(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	c.open(1, unix.O_RDWR, "file")
	if got := c.read(1, 3, 100); got != "tents" {
		t.Errorf("read %q", got)
	}
	if got := c.read(1, 100, 100); got != "" {
		t.Errorf("read %q behind the end", got)
	}
	big := bytes.Repeat([]byte("0123456789"), 50000)
	for at := 0; at < len(big); at += 30000 {
		c.write(1, uint64(at), string(big[at:min(at+30000, len(big))]))
	}
	c.must(tFsync, 1, 0)
	c.must(tFsync, 1, 1)
	if got, _ := os.ReadFile(filepath.Join(dir, "file")); !bytes.Equal(got, big) {
		t.Errorf("the file holds %d bytes; want %d", len(got), len(big))
	}
	if got := c.read(1, 0, 1<<20); got != string(big[:64<<10-ioHeaderSize]) {
		t.Errorf("%d bytes are read where there is room for 64 KiB", len(got))
	}
	c.must(tClunk, 1)
	c.open(1, unix.O_WRONLY|unix.O_APPEND, "file")
	c.write(1, 0, "end")
	if got, _ := os.ReadFile(filepath.Join(dir, "file")); !bytes.Equal(got, append(big, "end"...)) {
		t.Errorf("appended, the file holds %d bytes", len(got))
	}

	c.walkTo(2, "sub")
	c.must(tLcreate, 2, "new", unix.O_RDWR, 0o666, 0)
	c.write(2, 0, "hello")
	info, err := os.Stat(filepath.Join(dir, "sub", "new"))
	if err != nil || info.Mode().Perm() != 0o666 || info.Size() != 5 {
		t.Errorf("made %v, %v; want the guest's permissions", info, err)
	}
	c.walkTo(3, "sub")
	c.want(unix.EEXIST, tLcreate, 3, "new", unix.O_RDWR|unix.O_EXCL, 0o666, 0)
	c.must(tLcreate, 3, "new", unix.O_RDWR|unix.O_TRUNC, 0o666, 0)
	if got := c.attributes(3).size; got != 0 {
		t.Errorf("opened by creating and truncated, it has %d bytes", got)
	}
	c.want(unix.EBADF, tLopen, 3, 0)
	c.want(unix.EBADF, tLcreate, 3, "x", 0, 0, 0)
	c.want(unix.EBADF, tRead, 0, uint64(0), 10)
	c.want(unix.EINVAL, tRead, 3, uint64(1)<<63, 10)
	c.want(unix.EBADF, tGetattr, 99, uint64(0))
}

func TestFolders(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	c.must(tMkdir, 0, "many", 0o750, 0)
	var names []string
	for i := range 1500 {
		name := fmt.Sprintf("a-rather-long-name-for-a-file-%d", i)
		names = append(names, name)
		if err := os.WriteFile(filepath.Join(dir, "many", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.open(1, unix.O_RDONLY, "many")
	for _, count := range []int{200, 4000, 60000} {
		var got []string
		for offset := uint64(0); ; {
			d := c.must(tReaddir, 1, offset, count)
			entries := decoder{rest: d.take(int(d.word()))}
			if len(entries.rest) == 0 {
				break
			}
			for len(entries.rest) > 0 {
				entries.take(13)
				offset = entries.long()
				kind, name := entries.byte(), entries.text()
				if name == "." || name == ".." {
					continue
				}
				if got = append(got, name); kind != unix.DT_REG {
					t.Errorf("%s has the type %d", name, kind)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("with %d bytes at a time: %d entries; want %d", count, len(got), len(names))
		}
	}
	c.want(unix.EINVAL, tReaddir, 1, uint64(0), 20)
	c.must(tClunk, 1)

	c.want(unix.ENOTEMPTY, tUnlinkat, 0, "many", unix.AT_REMOVEDIR)
	c.want(unix.EISDIR, tUnlinkat, 0, "sub", 0)
	c.want(unix.ENOENT, tUnlinkat, 0, "none", 0)
	c.want(unix.EEXIST, tMkdir, 0, "many", 0o755, 0)
	c.walkTo(2, "many")
	c.must(tRenameat, 0, "file", 2, "renamed")
	if got, _ := os.ReadFile(filepath.Join(dir, "many", "renamed")); string(got) != "contents" {
		t.Errorf("the renamed file holds %q", got)
	}
	c.walkTo(3, "many", "renamed")
	c.must(tLink, 0, 3, "again")
	if got := c.attributes(3).links; got != 2 {
		t.Errorf("a file with %d links", got)
	}
	c.must(tSymlink, 0, "soft", "anywhere/at/all", 0)
	c.walkTo(4, "soft")
	if got := c.must(tReadlink, 4).text(); got != "anywhere/at/all" {
		t.Errorf("the link leads to %q", got)
	}
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "regular": unix.S_IFREG} {
		c.must(tMknod, 0, name, mode|0o666, 0, 0, 0)
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mode != mode|0o666 {
			t.Errorf("%s: mode %#o, %v", name, st.Mode, err)
		}
	}
	if d := c.must(tWalk, 0, 5, uint16(3), "sub", "deeper", "none"); d.half() != 2 {
		t.Error("a walk that ends early does not say where")
	}
	c.want(unix.EBADF, tGetattr, 5, uint64(0))
	c.want(unix.ENOENT, tWalk, 0, 5, uint16(2), "none", "none")
	c.walkTo(6, "sub")
	c.want(unix.EBADF, tWalk, 0, 6, uint16(0)) // it is in use
	c.must(tWalk, 6, 6, uint16(1), "deeper")
	if got, want := c.attributes(6).id, inode(t, filepath.Join(dir, "sub", "deeper")); got != want {
		t.Errorf("walked in place, the fid is of %d; want %d", got, want)
	}
	c.want(unix.EOPNOTSUPP, tRemove, 6)
	c.want(unix.EBADF, tClunk, 6)
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestAttributes(t *testing.T) {
	dir, _ := tree(t)
	c := attach(t, dir, false)
	c.walkTo(1, "file")
	c.must(tSetattr, 1, setMode|setSize|setMTime|givenMTime, 0o711, 0, 0, uint64(3), uint64(0), uint64(0), uint64(1_000_000_000), uint64(123))
	info, err := os.Stat(filepath.Join(dir, "file"))
	if err != nil || info.Size() != 3 || info.ModTime().UnixNano() != 1_000_000_000_000_000_123 || info.Mode() != 0o711 {
		t.Errorf("%v, %v", info, err)
	}
	a := c.attributes(1)
	if a.size != 3 || a.mode != 0o100711 || a.links != 1 || a.id != inode(t, filepath.Join(dir, "file")) {
		t.Errorf("attributes %+v", a)
	}
	if err := c.set(1, setCTime, 0, 0); err != nil {
		t.Errorf("touch: %v", err)
	}
	if err := c.set(1, setSize, 0, -1); err != unix.EINVAL {
		t.Errorf("a negative size: %v", err)
	}
	d := c.must(tStatfs, 1)
	if kind, size := d.word(), d.word(); kind != 0x01021997 || size == 0 {
		t.Errorf("file system %#x with blocks of %d bytes", kind, size)
	}
}

// What Linux allows on an open file works whatever has happened to its name.
func TestNamelessFiles(t *testing.T) {
	for name, lose := range map[string]func(c *client){
		"unlinked": func(c *client) { c.must(tUnlinkat, 0, "file", 0) },
		"renamed":  func(c *client) { c.must(tRenameat, 0, "file", 0, "elsewhere") },
		"replaced": func(c *client) {
			c.must(tSymlink, 0, "other", "/etc/passwd", 0)
			c.must(tRenameat, 0, "other", 0, "file")
		},
		"moved": func(c *client) { c.walkTo(9, "sub"); c.must(tRenameat, 0, "file", 9, "file") },
		"not allowed": func(c *client) {
			c.must(tSetattr, 1, setMode, 0, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := tree(t)
			c := attach(t, dir, false)
			c.walkTo(1, "file")
			c.open(2, unix.O_RDWR, "file")
			lose(c)
			for _, fid := range []int{2, 1} {
				if err := c.set(fid, setSize, 0, 4); err != nil {
					t.Errorf("fid %d: ftruncate: %v", fid, err)
				}
				if err := c.set(fid, setMode, 0o640, 0); err != nil || c.attributes(fid).mode != 0o100640 {
					t.Errorf("fid %d: fchmod: %v, mode %#o", fid, err, c.attributes(fid).mode)
				}
				c.must(tSetattr, fid, setUID|setGID, 0, os.Getuid(), os.Getgid(), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
				if err := c.set(fid, setATime|setMTime|givenATime|givenMTime, 0, 0); err != nil {
					t.Errorf("fid %d: futimens: %v", fid, err)
				}
				c.setxattr(10, fid, "user.key", "value", 0)
				if got, err := c.getxattr(11, fid, "user.key"); got != "value" || err != nil {
					t.Errorf("fid %d: fgetxattr: %q, %v", fid, got, err)
				}
				if got := c.attributes(fid).size; got != 4 {
					t.Errorf("fid %d: the file has %d bytes", fid, got)
				}
			}
			c.write(2, 4, "more")
			if got := c.read(2, 0, 100); got != "contmore" {
				t.Errorf("it holds %q", got)
			}
			c.must(tFsync, 2, 0)
			c.must(tLock, 2, uint8(1), 0, uint64(0), uint64(0), 1, "guest")
			c.must(tWalk, 2, 20, uint16(0))
			c.must(tLopen, 20, unix.O_RDWR)
			if got := c.read(20, 0, 100); got != "contmore" {
				t.Errorf("opened once more, it holds %q", got)
			}
		})
	}
}

// setxattr sets an extended attribute of a fid's file by way of another fid, as
// Linux does.
func (c *client) setxattr(by, fid int, name, value string, flags int) {
	c.t.Helper()
	c.must(tWalk, fid, by, uint16(0))
	c.must(tXattrcreate, by, name, uint64(len(value)), flags)
	if value != "" {
		c.write(by, 0, value)
	}
	c.must(tClunk, by)
}

func (c *client) getxattr(by, fid int, name string) (string, error) {
	c.t.Helper()
	d, err := c.do(tXattrwalk, fid, by, name)
	if err != nil {
		return "", err
	}
	size := d.long()
	value := c.read(by, 0, int(size))
	c.must(tClunk, by)
	return value, nil
}

func TestExtendedAttributes(t *testing.T) {
	dir, _ := tree(t)
	path := filepath.Join(dir, "file")
	c := attach(t, dir, false)
	c.walkTo(1, "file")
	big := string(bytes.Repeat([]byte("x"), 3000))
	c.setxattr(2, 1, "user.one", big, 0)
	c.setxattr(2, 1, "user.two", "", 0)
	buf := make([]byte, 4000)
	if n, err := unix.Getxattr(path, "user.one", buf); err != nil || string(buf[:n]) != big {
		t.Errorf("on the host, %d bytes, %v", n, err)
	}
	if got, err := c.getxattr(2, 1, ""); err != nil || len(got) != len("user.one user.two ") {
		t.Errorf("the names are %q, %v", got, err)
	}
	c.setxattr(2, 1, "user.one", "", unix.XATTR_REPLACE) // removes it
	if got, err := c.getxattr(2, 1, "user.one"); err != unix.ENODATA {
		t.Errorf("after removal: %q, %v", got, err)
	}
	if got, err := c.getxattr(2, 1, "user.two"); got != "" || err != nil {
		t.Errorf("an empty one: %q, %v", got, err)
	}
	// Those that mean something to the host's kernel.
	for _, name := range []string{"security.capability", "security.selinux", "trusted.overlay.opaque", "system.posix_acl_access", "user", "x"} {
		c.want(unix.EOPNOTSUPP, tXattrwalk, 1, 2, name)
		c.walkTo(3, "file")
		c.want(unix.EOPNOTSUPP, tXattrcreate, 3, name, uint64(4), 0)
		c.must(tClunk, 3)
	}
	c.walkTo(3, "file")
	c.want(unix.E2BIG, tXattrcreate, 3, "user.big", uint64(64<<10+1), 0)
	c.must(tXattrcreate, 3, "user.short", uint64(10), 0)
	c.want(unix.EINVAL, tWrite, 3, uint64(1), 1, raw("x"))
	c.want(unix.EINVAL, tWrite, 3, uint64(0), 11, raw("hello world"))
	c.write(3, 0, "hello")
	c.want(unix.EBADF, tRead, 3, uint64(0), 5)
	c.want(unix.EBADF, tGetattr, 3, uint64(0))
	c.want(unix.EINVAL, tClunk, 3) // it is not whole
	if _, err := unix.Getxattr(path, "user.short", buf); err != unix.ENODATA {
		t.Errorf("half of an attribute is set: %v", err)
	}
}
