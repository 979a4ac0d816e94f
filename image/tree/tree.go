// Package tree owns the files of an image while they lie unpacked in a folder.
//
// An image's links are the image's: a name in it leads somewhere in the tree,
// never to the host's files, as if the tree were the root of a file system.
// All work on it therefore goes through the descriptor of its root, by openat2(2)
// with RESOLVE_IN_ROOT, and no other package touches the files in it; a test of
// the source tree holds that. Nobody else may write to the tree meanwhile: it
// lies in a folder of this user alone.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of a tree. What is beyond them is an error.
const (
	MaxFiles = 4 << 20 // links counted for each name
	MaxBytes = 1 << 40 // of all files together, holes included
	MaxDepth = 256     // folders in each other

	maxCleared    = 4 * MaxFiles // names in folders of which layers remove something
	maxAttributes = 64 << 20     // bytes of extended attributes that are kept here
)

// Tree is a folder with the files of an image.
type Tree struct {
	path   string
	root   int // a descriptor, by O_PATH
	top    inode
	native bool // owners, devices and so on are those of the host's files
	meta   map[inode]meta

	files      int
	bytes      int64
	cleared    int
	attributes int

	name string // of the folder that was looked up last
	last int    // its descriptor; -1 for none
}

// inode tells files apart.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// meta is what the host's own file does not say.
type meta struct {
	mode     uint32 // type and rights
	uid, gid uint32
	rdev     uint64
	mtime    unix.Timespec     // of folders, whose time changes as they are filled
	xattrs   map[string]string // those that take root
}

// Make makes the folder of an empty tree, which [Tree.Remove] removes. For root,
// what is unpacked has the owners and rights that it is to have. For others these
// are written down: see [Tree.WriteState].
func Make(path string) (*Tree, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	t, err := Open(path)
	if err != nil {
		return nil, err
	}
	t.setMode(t.root, ".", t.top, unix.S_IFDIR|0o755)
	return t, nil
}

// Open is the tree in a folder that is there, to read it.
func Open(path string) (*Tree, error) {
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		unix.Close(root)
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return &Tree{path: path, root: root, top: inodeOf(&st), native: os.Geteuid() == 0, meta: map[inode]meta{}, last: -1}, nil
}

// Path is the folder, for a program that takes all of the tree: a container
// runtime, or mke2fs. Nothing else is to be looked up below it.
func (t *Tree) Path() string { return t.path }

// Close ends the work on the tree. Its files stay.
func (t *Tree) Close() error {
	t.forget()
	return unix.Close(t.root)
}

// Remove removes the folder and all that is in it.
func (t *Tree) Remove() error { return errors.Join(t.Close(), os.RemoveAll(t.path)) }

// forget forgets the folder that was looked up last: its name may lead elsewhere
// when something was removed.
func (t *Tree) forget() {
	if t.last >= 0 && t.last != t.root {
		unix.Close(t.last)
	}
	t.name, t.last = "", -1
}

// clean is a name in an image as a path below its root; "" for the root.
func clean(name string) (string, error) {
	switch {
	case strings.ContainsRune(name, 0):
		return "", fmt.Errorf("the name %.80q has a zero byte in it", name)
	case len(name) >= unix.PathMax:
		return "", fmt.Errorf("the name %.40q... has %d bytes; at most %d are taken", name, len(name), unix.PathMax-1)
	}
	name = path.Clean("/" + name)[1:]
	if n := strings.Count(name, "/"); n >= MaxDepth {
		return "", fmt.Errorf("the name %.40q... leads through %d folders; at most %d are taken", name, n, MaxDepth)
	}
	return name, nil
}

// at opens what a name in the tree leads to.
func (t *Tree) at(name string, flags int) (int, error) {
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(t.root, name, &unix.OpenHow{
			Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != unix.EAGAIN && err != unix.EINTR { // EAGAIN: something was renamed on this host meanwhile
			return fd, err
		}
	}
}

// folder is the descriptor of a folder in the tree, which belongs to t. Where there
// is none it is made, if wanted, with those above it.
func (t *Tree) folder(name string, make bool) (int, error) {
	if t.last >= 0 && name == t.name {
		return t.last, nil
	}
	fd, err := t.at(name, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT && make {
		fd, err = t.makeFolders(name, 0)
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open folder", Path: name, Err: err}
	}
	t.forget()
	t.name, t.last = name, fd
	return fd, nil
}

// maxLinks is how many links may lead to another, as in Linux.
const maxLinks = 40

// makeFolders makes a folder and those above it. A link that leads nowhere leads to
// a folder then.
func (t *Tree) makeFolders(name string, links int) (int, error) {
	if links > maxLinks {
		return -1, unix.ELOOP
	}
	if len(name) >= unix.PathMax {
		return -1, unix.ENAMETOOLONG
	}
	fd, err := t.at("", unix.O_PATH|unix.O_DIRECTORY)
	for at, rest := "", name; err == nil && rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if part == "" || part == "." {
			continue
		}
		above := fd
		at = at + "/" + part
		if fd, err = t.at(at, unix.O_PATH|unix.O_DIRECTORY); err == unix.ENOENT {
			switch err = t.makeFolder(above, part, unix.S_IFDIR|0o755); err {
			case nil:
				fd, err = t.at(at, unix.O_PATH|unix.O_DIRECTORY)
			case unix.EEXIST: // a link
				var target string
				if target, err = readlink(above, part); err == nil {
					if !strings.HasPrefix(target, "/") {
						target = at[:len(at)-len(part)] + target
					}
					fd, err = t.makeFolders(target, links+1)
				}
			}
		}
		unix.Close(above)
	}
	return fd, err
}

// makeFolder makes one folder.
func (t *Tree) makeFolder(in int, name string, mode uint32) error {
	if err := t.deeper(in); err != nil {
		return err
	}
	if err := t.count(0); err != nil {
		return err
	}
	if err := unix.Mkdirat(in, name, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(in, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return t.setMode(in, name, inodeOf(&st), mode)
}

// deeper fails when what is in a folder would lie too deep. Links can lead deeper
// than a name is long.
func (t *Tree) deeper(in int) error {
	fd, err := unix.Dup(in)
	for depth := 0; err == nil; depth++ {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err != nil || inodeOf(&st) == t.top {
			break
		}
		if depth == MaxDepth {
			err = fmt.Errorf("more than %d folders in each other", MaxDepth)
			break
		}
		up, upErr := unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd, err = up, upErr
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	return err
}

// count counts a file.
func (t *Tree) count(size int64) error {
	if t.files++; t.files > MaxFiles {
		return fmt.Errorf("more than %d files", MaxFiles)
	}
	if size < 0 || size > MaxBytes-t.bytes {
		return fmt.Errorf("more than %d GiB of files", MaxBytes>>30)
	}
	t.bytes += size
	return nil
}

// setMode sets a new file's type and rights; it is root's.
func (t *Tree) setMode(in int, name string, id inode, mode uint32) error {
	if t.native {
		return unix.Fchmodat(in, name, mode&0o7777, 0)
	}
	m := t.meta[id]
	m.mode = mode
	t.meta[id] = m
	return nil
}

func readlink(in int, name string) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(in, name, buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// removeAt removes a file, or a folder with what is in it.
func (t *Tree) removeAt(in int, name string) error {
	err := unix.Unlinkat(in, name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		err = t.empty(in, name)
		if err == nil {
			err = unix.Unlinkat(in, name, unix.AT_REMOVEDIR)
		}
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// empty removes what is in a folder.
func (t *Tree) empty(in int, name string) error {
	dir, err := openFolder(in, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := t.removeAt(int(dir.Fd()), n); err != nil {
			return err
		}
	}
	return nil
}

// openFolder opens a folder itself, no link.
func openFolder(in int, name string) (*os.File, error) {
	fd, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// MakeFolder makes a folder in the tree unless there is one, and those above it. It
// says whether it is new.
func (t *Tree) MakeFolder(name string) (made bool, err error) {
	name, err = clean(name)
	if err != nil {
		return false, err
	}
	before := t.files
	_, err = t.folder(name, true)
	return t.files > before, err
}

// MakeMountPoint makes a folder in the root, in place of whatever else has its name:
// for container runtimes, of which some follow a link there out of the tree.
func (t *Tree) MakeMountPoint(name string) error {
	root, err := t.folder("", false)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(root, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return nil
	case err == nil:
		if err := t.removeAt(root, name); err != nil {
			return err
		}
	case err != unix.ENOENT:
		return err
	}
	return t.makeFolder(root, name, unix.S_IFDIR|0o755)
}

// Chmod sets the rights of a folder that is no link.
func (t *Tree) Chmod(name string, mode uint32) error {
	name, err := clean(name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	in, err := t.folder(strings.TrimSuffix(dir, "/"), false)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(in, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	return t.setMode(in, base, inodeOf(&st), unix.S_IFDIR|mode)
}

// Open opens the regular file that a name in the tree leads to. Nothing else is
// opened: to open a device can be an order to it, and a FIFO waits.
func (t *Tree) Open(name string) (*os.File, error) {
	name, err := clean(name)
	if err != nil {
		return nil, err
	}
	fd, err := t.at(name, unix.O_PATH)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if m, ok := t.meta[inodeOf(&st)]; ok && m.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(fd))
}

// IsFile tells whether a name is that of a file, or of a link.
func (t *Tree) IsFile(name string) bool {
	name, err := clean(name)
	if err != nil || name == "" {
		return false
	}
	dir, base := path.Split(name)
	in, err := t.folder(strings.TrimSuffix(dir, "/"), false)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	return unix.Fstatat(in, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR
}

// Glob are the names in a folder of the tree that match a pattern of
// [filepath.Match], in order; none without the folder.
func (t *Tree) Glob(dir, pattern string) ([]string, error) {
	dir, err := clean(dir)
	if err != nil {
		return nil, err
	}
	fd, err := t.at(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open folder", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		ok, err := filepath.Match(pattern, n)
		return err != nil || !ok
	})
	slices.Sort(names)
	return names, nil
}
