package tree

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Linux's Documentation/driver-api/early-userspace/buffer-format.rst describes the
// archive that is an initial RAM disk: newc, the "new" one of cpio.

// console is the device that is the standard input and output of a machine's first
// process, if it is in its archive.
const console = "dev/console"

// WriteInitrd writes the tree as an initial RAM disk. /dev/console is in it whatever
// the tree has there.
func (t *Tree) WriteInitrd(w io.Writer) error {
	c := &cpio{w: bufio.NewWriterSize(w, 1<<20)}
	seen := map[inode]uint32{} // files that are written, and have more names
	err := t.walk(func(f *file) error {
		if f.path == "" || f.path == console || strings.HasPrefix(f.path, console+"/") {
			return nil
		}
		return c.file(f, seen)
	})
	if err != nil {
		return err
	}
	c.console()
	return c.end()
}

// Member is a file of an initial RAM disk that comes from no tree; without contents, a
// folder.
type Member struct {
	Path     string
	Contents io.Reader
	Size     int64
	Mode     uint32 // rights
}

// WriteMembers writes an initial RAM disk of some files, which the kernel adds to
// those of another in front of it. With console, /dev/console is one of them.
func WriteMembers(w io.Writer, console bool, members []Member) error {
	c := &cpio{w: bufio.NewWriterSize(w, 1<<20)}
	if console {
		c.header(unix.S_IFDIR|0o755, 0, 0, 2, 0, 0, c.next(), "dev")
		c.console()
	}
	for _, m := range members {
		kind := uint32(unix.S_IFREG)
		if m.Contents == nil {
			kind = unix.S_IFDIR
		}
		c.header(kind|m.Mode, 0, 0, 1, m.Size, 0, c.next(), m.Path)
		if m.Contents != nil {
			c.body(m.Contents, m.Size)
		}
	}
	return c.end()
}

// cpio writes an archive. After an error it does nothing.
type cpio struct {
	w   *bufio.Writer
	at  int64
	ino uint32
	err error
}

func (c *cpio) console() {
	c.header(unix.S_IFCHR|0o600, 0, 0, 1, 0, unix.Mkdev(5, 1), c.next(), console)
}

// end completes the archive.
func (c *cpio) end() error {
	c.header(0, 0, 0, 1, 0, 0, 0, "TRAILER!!!")
	if c.err == nil {
		c.err = c.w.Flush()
	}
	return c.err
}

func (c *cpio) next() uint32 { c.ino++; return c.ino }

// file writes a file of a tree. Another name of one that is written has no contents,
// and leads to those of the first.
func (c *cpio) file(f *file, seen map[inode]uint32) error {
	ino, written := seen[inodeOf(&f.Stat_t)]
	if !written {
		ino = c.next()
	}
	links := uint32(1)
	if f.Nlink > 1 && f.kind() != unix.S_IFDIR {
		links, seen[inodeOf(&f.Stat_t)] = uint32(f.Nlink), ino
	}
	switch f.kind() {
	case unix.S_IFREG:
		size := f.Size
		if written {
			size = 0
		}
		if size > 1<<32-1 {
			return fmt.Errorf("%s: a file of %d bytes: an initial RAM disk has files of less than 4 GiB", f.path, size)
		}
		c.header(f.Mode, f.Uid, f.Gid, links, size, 0, ino, f.path)
		if size > 0 && c.err == nil {
			from, err := f.open()
			if err != nil {
				return err
			}
			defer from.Close()
			c.body(from, size)
		}
	case unix.S_IFLNK:
		target, err := f.target()
		if err != nil {
			return err
		}
		c.header(f.Mode, f.Uid, f.Gid, 1, int64(len(target)), 0, c.next(), f.path)
		c.body(bytes.NewReader([]byte(target)), int64(len(target)))
	case unix.S_IFDIR, unix.S_IFIFO:
		c.header(f.Mode, f.Uid, f.Gid, links, 0, 0, ino, f.path)
	case unix.S_IFCHR, unix.S_IFBLK:
		c.header(f.Mode, f.Uid, f.Gid, links, 0, f.Rdev, ino, f.path)
	}
	return c.err
}

func (c *cpio) header(mode, uid, gid, links uint32, size int64, rdev uint64, ino uint32, name string) {
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		ino, mode, uid, gid, links, 0, size, 0, 0, unix.Major(rdev), unix.Minor(rdev), len(name)+1, 0, name))
	c.pad()
}

func (c *cpio) body(from io.Reader, size int64) {
	if c.err != nil {
		return
	}
	n, err := io.CopyN(c.w, from, size)
	c.at += n
	c.err = err
	c.pad()
}

func (c *cpio) write(p []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(p)
		c.at += int64(len(p))
	}
}

// pad goes on to a multiple of 4 bytes.
func (c *cpio) pad() { c.write(zeros[:-c.at&3]) }
