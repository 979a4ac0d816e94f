// Package share makes a folder of the host available to a guest: files and what
// can be done with them, without the protocol in which the guest asks for it,
// which is package ninep's.
//
// The guest is confined to the folder. It names one entry of one folder at a
// time, never a path and never "..", and a symbolic link is the guest's own to
// follow: what it gets is the link. So every file is reached from the folder by
// steps downwards, whatever links there are and whoever moves things about
// meanwhile. A file is held by its descriptor, not by its name, and stays the
// same file when its name goes. Only regular files and folders are ever opened.
//
// Other file systems below the folder belong to it, as those below a folder that
// is given to a container do; but for those whose files are the kernel's (proc,
// sysfs), which no guest is let into.
//
// The rights of the guest are those of the user that runs vmm. What it makes
// belongs to that user, or, where that user may give files away, to the guest's
// user. It makes no devices and no program that runs with its owner's rights.
//
// Errors are of type [unix.Errno], for the guest.
package share

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Folder is a folder of the host for a guest.
type Folder struct {
	root     *Node
	readOnly bool
	budget   *Budget

	mu      sync.Mutex
	numbers map[uint64]uint64 // of file systems, by device; the folder's own is 0
}

// Open opens a folder, whose files count in the budget.
func Open(path string, readOnly bool, budget *Budget) (*Folder, error) {
	f := &Folder{readOnly: readOnly, budget: budget, numbers: map[uint64]uint64{}}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		f.root, _, err = f.node(fd, nil)
	}
	if err == unix.EACCES && fd >= 0 {
		return nil, fmt.Errorf("share %s: its files are the host's kernel; share another folder", path)
	}
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", path, err)
	}
	return f, nil
}

// Budget is the budget in which the folder's files count.
func (f *Folder) Budget() *Budget { return f.budget }

// Root is the folder itself, for the caller to close.
func (f *Folder) Root() (*Node, error) { return f.root.Clone() }

// Close lets go of the folder. Its nodes and files have been closed.
func (f *Folder) Close() error { return f.root.Close() }

// node is the node that a new descriptor leads to, and what is known of it. from
// is where it was found, nil for the folder itself. Whatever happens, the
// descriptor is taken care of.
func (f *Folder) node(fd int, from *Node) (*Node, *unix.Stat_t, error) {
	if !f.budget.descriptors.take(1) {
		unix.Close(fd)
		return nil, nil, unix.EMFILE
	}
	n := &Node{folder: f, fd: fd}
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil {
		n.kind, n.device = st.Mode&unix.S_IFMT, st.Dev
		if from != nil && from.device == st.Dev {
			n.number = from.number
		} else {
			n.number, err = f.enter(fd, st.Dev)
		}
	}
	if err != nil {
		n.Close()
		return nil, nil, err
	}
	return n, &st, nil
}

// enter is the number of a file system, or an error where a guest is not to go
// on to it.
func (f *Folder) enter(fd int, device uint64) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	if st.Type == unix.PROC_SUPER_MAGIC || st.Type == unix.SYSFS_MAGIC {
		return 0, unix.EACCES
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	number, ok := f.numbers[device]
	if !ok {
		number = uint64(len(f.numbers))
		f.numbers[device] = number
	}
	return number, nil
}

// writable is an error where the guest may only read.
func (f *Folder) writable() error {
	if f.readOnly {
		return unix.EROFS
	}
	return nil
}

// again calls f until no signal interrupts it.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
