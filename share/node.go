package share

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Node is a file of the guest's, of any kind: where it is. Its descriptor gives no
// right to the contents (O_PATH) unless it is a [File]'s. Nothing of it changes;
// several goroutines may use it at once, until it is closed.
type Node struct {
	folder *Folder
	fd     int
	kind   uint32 // S_IFMT of the mode
	opened bool   // it is a File's
	device uint64
	number uint64 // of the file system, in the folder
}

// ID is a number for the file with an inode number in the node's file system. No
// other file of the shared folder has it: it is the inode number itself, but in
// other file systems below the folder.
func (n *Node) ID(inode uint64) uint64 { return inode ^ n.number<<48 }

// Close lets go of the file.
func (n *Node) Close() error {
	n.folder.budget.descriptors.give(1)
	return unix.Close(n.fd)
}

// Folder is the folder that the file was reached from.
func (n *Node) Folder() *Folder { return n.folder }

// Clone returns another node of the same file, not opened.
func (n *Node) Clone() (*Node, error) {
	var fd int
	var err error
	if n.opened { // a duplicate would keep its locks
		fd, err = n.reopen(unix.O_PATH)
	} else {
		fd, err = unix.FcntlInt(uintptr(n.fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	clone, _, err := n.folder.node(fd, n)
	return clone, err
}

// path is a path that leads to the file itself, whatever has become of its name:
// for system calls that do not take a descriptor of its kind.
func (n *Node) path() string { return "/proc/self/fd/" + strconv.Itoa(n.fd) }

// Lookup is an entry of a folder, and what is known of it. A symbolic link is not
// followed.
func (n *Node) Lookup(name string) (*Node, *unix.Stat_t, error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	fd, err := n.openAt(name, unix.O_PATH, 0)
	if err != nil {
		return nil, nil, err
	}
	return n.folder.node(fd, n)
}

// openAt opens an entry of a folder, and nothing else: the second fence behind
// checkName.
func (n *Node) openAt(name string, flags int, mode uint32) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	err = again(func() error {
		fd, err = unix.Openat2(n.fd, name, &how)
		return err
	})
	return fd, err
}

// maxName is the length of a file's name at the most. limits.h.
const maxName = 255

// checkName refuses what is not the name of one entry.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return unix.EINVAL
	case len(name) > maxName:
		return unix.ENAMETOOLONG
	}
	return nil
}

// Stat is what is known of the file.
func (n *Node) Stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return nil, err
	}
	return &st, nil
}

// StatFS is what is known of the file system that the file is in.
func (n *Node) StatFS() (*unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &st); err != nil {
		return nil, err
	}
	return &st, nil
}

// ReadLink is where a symbolic link leads.
func (n *Node) ReadLink() (string, error) {
	buf := make([]byte, unix.PathMax)
	k, err := unix.Readlinkat(n.fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:k]), nil
}
