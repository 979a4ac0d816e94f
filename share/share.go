// Package share makes a folder of the host available to a guest, as a 9P2000.L
// file server sees it.
//
// The guest is confined to the folder. It names one entry of one folder at a
// time, never a path and never "..", and a symbolic link is the guest's own to
// follow: what the server hands out is the link. So every file is reached from
// the folder by steps downwards, whatever links there are and whoever moves
// things about meanwhile. Only regular files and folders are ever opened.
//
// Files that the guest makes belong to the user that runs vmm, whose rights are
// those of the guest. Extended attributes are not passed on.
package share

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"
	"golang.org/x/sys/unix"
)

// Folder is a folder of the host for a guest.
type Folder struct {
	root     int // file descriptor
	readOnly bool
	handles  atomic.Int64
	limit    int64 // of handles
}

// Open opens a folder.
func Open(path string, readOnly bool) (*Folder, error) {
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", path, err)
	}
	files, err := openFiles()
	if err != nil {
		unix.Close(root)
		return nil, fmt.Errorf("share %s: getrlimit: %w", path, err)
	}
	// A guest holds files open on the host as it likes; the rest of vmm needs
	// some too. Two for each file: where it is, and what is in it.
	return &Folder{root: root, readOnly: readOnly, limit: int64(files / 4)}, nil
}

// maxFiles is how many files vmm may have open where it can choose: what Linux
// allows at the most when not told otherwise (/proc/sys/fs/nr_open).
const maxFiles = 1 << 20

// openFiles is how many files this process may have open. Linux as a guest keeps
// one for every file that it remembers, which are tens of thousands where a
// program is built; a host's usual limit may be a few thousand, which only root
// can raise.
func openFiles() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur < maxFiles {
		more := unix.Rlimit{Cur: maxFiles, Max: max(limit.Max, maxFiles)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
			return maxFiles, nil
		}
	}
	return min(limit.Cur, maxFiles), nil
}

// Serve answers a client's messages until there are no more. The answers to
// several may be under way at once.
func (f *Folder) Serve(messages io.ReadCloser, answers io.WriteCloser) error {
	return p9.NewServer(f).Handle(messages, answers)
}

// Close lets go of the folder. No Serve may be running.
func (f *Folder) Close() error { return unix.Close(f.root) }

// Attach implements p9.Attacher.
func (f *Folder) Attach() (p9.File, error) {
	fd, err := unix.FcntlInt(uintptr(f.root), unix.F_DUPFD_CLOEXEC, 0)
	return f.handle(fd, err)
}

// handle is a handle for a file that has been reached.
func (f *Folder) handle(fd int, err error) (*handle, error) {
	if err != nil {
		return nil, wire(err)
	}
	if f.handles.Add(1) > f.limit {
		f.handles.Add(-1)
		unix.Close(fd)
		return nil, linux.EMFILE
	}
	return &handle{folder: f, fd: fd, opened: -1}, nil
}

// wire makes an error one that the protocol knows: left to itself, the library
// takes some for others.
func wire(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return linux.Errno(errno)
	}
	return err
}
