package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// file is a file of the tree that a walk has come to.
type file struct {
	unix.Stat_t        // as it is to be
	path        string // from the root; "" for the root itself
	in          int    // the folder that it is in
	name        string // in that
	xattrs      map[string]string
}

func (f *file) kind() uint32 { return f.Mode & unix.S_IFMT }

// open opens a regular file.
func (f *file) open() (*os.File, error) {
	fd, err := unix.Openat(f.in, f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.path, Err: err}
	}
	return os.NewFile(uintptr(fd), f.path), nil
}

// copyTo writes a regular file, of which there are as many bytes as its size says.
func (f *file) copyTo(w io.Writer) error {
	from, err := f.open()
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.CopyN(w, from, f.Size)
	return err
}

// target is where a link leads to.
func (f *file) target() (string, error) { return readlink(f.in, f.name) }

// walk visits the root and all that is below it, a folder before what is in it,
// names in order.
func (t *Tree) walk(visit func(*file) error) error {
	return t.walkFrom(t.root, ".", "", 0, visit, func(string, []string) {})
}

// walkFrom is walk from a file on. Filled is called with what is in each folder.
func (t *Tree) walkFrom(in int, name, path string, depth int, visit func(*file) error, filled func(path string, names []string)) error {
	f := &file{path: path, in: in, name: name}
	if err := unix.Fstatat(in, name, &f.Stat_t, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	folder := f.kind() == unix.S_IFDIR
	if !t.native {
		if m, ok := t.meta[inodeOf(&f.Stat_t)]; ok {
			f.Mode, f.Uid, f.Gid, f.Rdev, f.xattrs = m.mode, m.uid, m.gid, m.rdev, m.xattrs
		}
	}
	if err := visit(f); err != nil || !folder {
		return err
	}
	if depth > MaxDepth {
		return fmt.Errorf("%.80s...: more than %d folders in each other", path, MaxDepth)
	}
	dir, err := openFolder(in, name)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	filled(path, names)
	for _, n := range names {
		below := n
		if path != "" {
			below = path + "/" + n
		}
		if err := t.walkFrom(int(dir.Fd()), n, below, depth+1, visit, filled); err != nil {
			return err
		}
	}
	return nil
}

// Usage is what a file system needs for the files of a tree.
type Usage struct {
	Inodes int64
	Bytes  int64 // in blocks of 4096
	// Search is how many blocks of folders are looked through when each name is
	// added to its folder after one look at all that are there.
	Search int64
	Widest string // the folder that has most of that
}

// blockSize is that of the file systems that are made.
const blockSize = 4096

func blocks(n int64) int64 { return (n + blockSize - 1) / blockSize }

// entrySize is the room that a name takes in a folder of a file system, in bytes.
func entrySize(name string) int64 { return 8 + (int64(len(name))+3)&^3 }

// Finish completes the tree, to which nothing is added any more, and says what it
// needs.
func (t *Tree) Finish() (Usage, error) {
	var u Usage
	links := map[inode]bool{} // that were counted
	var names int64           // bytes of them, as in a folder
	var widest int64
	filled := func(path string, list []string) {
		var size int64
		for _, n := range list {
			size += entrySize(n)
		}
		names += size
		search := int64(len(list)) * blocks(size)
		if u.Search += search; search > widest {
			u.Widest, widest = path, search
		}
	}
	err := t.walkFrom(t.root, ".", "", 0, func(f *file) error {
		id := inodeOf(&f.Stat_t)
		if f.Nlink > 1 && f.kind() != unix.S_IFDIR {
			if links[id] {
				return nil
			}
			links[id] = true
		}
		u.Inodes++
		switch f.kind() {
		case unix.S_IFDIR:
			u.Bytes += blockSize
			if m, ok := t.meta[id]; ok && m.mtime != (unix.Timespec{}) {
				return unix.UtimesNanoAt(f.in, f.name, []unix.Timespec{m.mtime, m.mtime}, unix.AT_SYMLINK_NOFOLLOW)
			}
		case unix.S_IFREG:
			n, err := f.data()
			u.Bytes += n
			return err
		case unix.S_IFLNK:
			if f.Size >= 60 { // shorter ones are in the inode
				u.Bytes += blockSize
			}
		}
		return nil
	}, filled)
	u.Bytes += 2 * blocks(names) * blockSize // its blocks are never quite full
	return u, err
}

// data is how much room a regular file takes without its holes, in whole blocks.
func (f *file) data() (int64, error) {
	if f.Blocks*512 >= f.Size || f.Size <= blockSize {
		return blocks(f.Size) * blockSize, nil
	}
	file, err := f.open()
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var sum int64
	for at := int64(0); at < f.Size; {
		from, err := file.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return 0, err
		}
		to, err := file.Seek(from, unix.SEEK_HOLE)
		if err != nil {
			return 0, err
		}
		sum += blocks(to-from) * blockSize
		at = to
	}
	return sum, nil
}
