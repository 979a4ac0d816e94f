package share

import (
	"sync"

	"golang.org/x/sys/unix"
)

// File is an opened file: a node whose descriptor gives access to the contents.
// Several goroutines may use it at once, until it is closed.
type File struct {
	*Node
	access int // O_ACCMODE of its flags

	directory sync.Mutex // over the position in a folder
	locks     locks
}

// openFlags are those of open(2) that matter to the host; the others are the
// guest kernel's own affair.
const openFlags = unix.O_ACCMODE | unix.O_TRUNC | unix.O_APPEND | unix.O_DSYNC | unix.O_SYNC | unix.O_NOATIME

const setIDBits = unix.S_ISUID | unix.S_ISGID

func newFile(n *Node, flags int) *File {
	n.opened = true
	return &File{Node: n, access: flags & unix.O_ACCMODE}
}

// Open opens the contents of a file. What does something when it is opened, a
// device or a pipe, is not for a guest to open here.
func (n *Node) Open(flags int) (*File, *unix.Stat_t, error) {
	if n.kind != unix.S_IFREG && n.kind != unix.S_IFDIR {
		return nil, nil, unix.EPERM
	}
	flags &= openFlags
	writes := flags&(unix.O_ACCMODE|unix.O_TRUNC) != unix.O_RDONLY
	if writes {
		if err := n.change(); err != nil {
			return nil, nil, err
		}
	}
	if n.folder.readOnly {
		flags |= unix.O_NOATIME // if it may: nothing of the file changes
	}
	fd, err := n.reopen(flags)
	if err == unix.EPERM && flags&unix.O_NOATIME != 0 {
		fd, err = n.reopen(flags &^ unix.O_NOATIME)
	}
	if err != nil {
		return nil, nil, err
	}
	to, st, err := n.folder.node(fd, n)
	if err != nil {
		return nil, nil, err
	}
	// Linux takes these bits away when somebody writes to the file, unless
	// that is root; here root is the guest.
	if writes && n.kind == unix.S_IFREG && st.Mode&setIDBits != 0 {
		if err := unix.Fchmod(fd, st.Mode&permissionBits); err != nil {
			to.Close()
			return nil, nil, err
		}
	}
	return newFile(to, flags), st, nil
}

// reopen opens the file once more.
func (n *Node) reopen(flags int) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Open(n.path(), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	return fd, err
}

// Close lets go of the file and of its locks.
func (f *File) Close() error {
	f.locks.close(f.folder.budget)
	return f.Node.Close()
}

// ReadAt reads from the file into buffers and returns how much that was; less
// than there is room for at the end only.
func (f *File) ReadAt(buffers [][]byte, offset int64) (n int, err error) {
	err = again(func() error {
		n, err = unix.Preadv(f.fd, buffers, offset)
		return err
	})
	return max(n, 0), err
}

// WriteAt writes buffers to the file and returns how much of them.
func (f *File) WriteAt(buffers [][]byte, offset int64) (n int, err error) {
	err = again(func() error {
		n, err = unix.Pwritev(f.fd, buffers, offset)
		return err
	})
	return max(n, 0), err
}

// Sync makes what was written permanent; dataOnly leaves out what is not needed to
// read it again.
func (f *File) Sync(dataOnly bool) error {
	if dataOnly {
		return again(func() error { return unix.Fdatasync(f.fd) })
	}
	return again(func() error { return unix.Fsync(f.fd) })
}

// SetAttributes is that of the node, but that the size of a file that is open for
// writing can be set whatever its permissions are by now.
func (f *File) SetAttributes(a Attributes) error {
	if a.Size != nil && f.access != unix.O_RDONLY {
		if err := f.change(); err != nil {
			return err
		}
		if err := again(func() error { return unix.Ftruncate(f.fd, *a.Size) }); err != nil {
			return err
		}
		a.Size = nil
	}
	return f.Node.SetAttributes(a)
}
