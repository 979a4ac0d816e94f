package share

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"
	"golang.org/x/sys/unix"
)

// handle is a file of the guest's: where it is, without any right to it
// (O_PATH), and once it has been opened, its contents.
type handle struct {
	folder *Folder
	fd     int
	opened int // -1 before

	dir sync.Mutex // over the position in an opened folder
}

var _ p9.File = (*handle)(nil)

// path is a path that leads to the file itself, wherever it is: for system calls
// that do not take a descriptor of its kind.
func (h *handle) path() string { return fmt.Sprintf("/proc/self/fd/%d", h.fd) }

// writable is an error where the guest may only read.
func (h *handle) writable() error {
	if h.folder.readOnly {
		return linux.EROFS
	}
	return nil
}

func (h *handle) stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	return st, wire(unix.Fstat(h.fd, &st))
}

func qid(st *unix.Stat_t) p9.QID {
	return p9.QID{
		Type:    p9.FileMode(st.Mode).QIDType(),
		Version: uint32(st.Mtim.Sec) ^ uint32(st.Mtim.Nsec),
		// Folders may have other file systems below them.
		Path: st.Ino ^ st.Dev<<40,
	}
}

// Walk implements p9.File.
func (h *handle) Walk(names []string) ([]p9.QID, p9.File, error) {
	qids, to, _, err := h.walk(names)
	if err != nil {
		return nil, nil, err
	}
	return qids, to, nil
}

// WalkGetAttr implements p9.File.
func (h *handle) WalkGetAttr(names []string) ([]p9.QID, p9.File, p9.AttrMask, p9.Attr, error) {
	qids, to, st, err := h.walk(names)
	if err != nil {
		return nil, nil, p9.AttrMask{}, p9.Attr{}, err
	}
	return qids, to, known, attr(&st), nil
}

func (h *handle) walk(names []string) (qids []p9.QID, to *handle, st unix.Stat_t, err error) {
	to, err = h.folder.handle(unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0))
	if err != nil {
		return nil, nil, st, err
	}
	for _, name := range names {
		next, err := to.child(name)
		to.Close()
		if err != nil {
			return nil, nil, st, err
		}
		to = next
		if st, err = to.stat(); err != nil {
			to.Close()
			return nil, nil, st, err
		}
		qids = append(qids, qid(&st))
	}
	if len(names) == 0 {
		if st, err = to.stat(); err != nil {
			to.Close()
			return nil, nil, st, err
		}
	}
	return qids, to, st, nil
}

// child is an entry of a folder.
func (h *handle) child(name string) (*handle, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return h.folder.handle(unix.Openat(h.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0))
}

// checkName refuses what is more than one step down. The library has done so
// too; this is where it counts.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return linux.EINVAL
	}
	return nil
}

// known are the attributes that GetAttr returns, whatever was asked for.
var known = p9.AttrMask{
	Mode: true, NLink: true, UID: true, GID: true, RDev: true, ATime: true, MTime: true, CTime: true,
	INo: true, Size: true, Blocks: true,
}

func attr(st *unix.Stat_t) p9.Attr {
	return p9.Attr{
		Mode: p9.FileMode(st.Mode), UID: p9.UID(st.Uid), GID: p9.GID(st.Gid),
		NLink: p9.NLink(st.Nlink), RDev: p9.Dev(st.Rdev),
		Size: uint64(st.Size), BlockSize: uint64(st.Blksize), Blocks: uint64(st.Blocks),
		ATimeSeconds: uint64(st.Atim.Sec), ATimeNanoSeconds: uint64(st.Atim.Nsec),
		MTimeSeconds: uint64(st.Mtim.Sec), MTimeNanoSeconds: uint64(st.Mtim.Nsec),
		CTimeSeconds: uint64(st.Ctim.Sec), CTimeNanoSeconds: uint64(st.Ctim.Nsec),
	}
}

// GetAttr implements p9.File.
func (h *handle) GetAttr(p9.AttrMask) (p9.QID, p9.AttrMask, p9.Attr, error) {
	st, err := h.stat()
	return qid(&st), known, attr(&st), err
}

// StatFS implements p9.File.
func (h *handle) StatFS() (p9.FSStat, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(h.fd, &st); err != nil {
		return p9.FSStat{}, wire(err)
	}
	const magic = 0x01021997 // V9FS_MAGIC of <linux/magic.h>
	return p9.FSStat{
		Type: magic, BlockSize: uint32(st.Bsize), Blocks: st.Blocks, BlocksFree: st.Bfree,
		BlocksAvailable: st.Bavail, Files: st.Files, FilesFree: st.Ffree, NameLength: uint32(st.Namelen),
	}, nil
}

// SetAttr implements p9.File.
func (h *handle) SetAttr(valid p9.SetAttrMask, a p9.SetAttr) error {
	if err := h.writable(); err != nil {
		return err
	}
	if valid.UID || valid.GID {
		uid, gid := -1, -1
		if valid.UID {
			uid = int(a.UID)
		}
		if valid.GID {
			gid = int(a.GID)
		}
		if err := unix.Fchownat(h.fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return wire(err)
		}
	}
	// After the owner, whose change takes the set-user-ID bit away.
	if valid.Permissions {
		if err := unix.Fchmodat(unix.AT_FDCWD, h.path(), permissionBits(a.Permissions), 0); err != nil {
			return wire(err)
		}
	}
	if valid.Size {
		if err := h.truncate(int64(a.Size)); err != nil {
			return err
		}
	}
	if valid.ATime || valid.MTime {
		return h.setTimes(valid, a)
	}
	return nil
}

// permissionBits are those of a mode that a guest may set. The library leaves
// out the set-user-ID bits, and so a guest makes no programs for the host that
// have more rights than it has.
func permissionBits(m p9.FileMode) uint32 { return uint32(m) & 0o1777 }

func (h *handle) truncate(size int64) error {
	fd, err := h.reopen(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return wire(unix.Ftruncate(fd, size))
}

func (h *handle) setTimes(valid p9.SetAttrMask, a p9.SetAttr) error {
	pick := func(set, given bool, sec, nsec uint64) unix.Timespec {
		switch {
		case !set:
			return unix.Timespec{Nsec: unix.UTIME_OMIT}
		case !given:
			return unix.Timespec{Nsec: unix.UTIME_NOW}
		}
		return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
	}
	return wire(unix.UtimesNanoAt(unix.AT_FDCWD, h.path(), []unix.Timespec{
		pick(valid.ATime, valid.ATimeNotSystemTime, a.ATimeSeconds, a.ATimeNanoSeconds),
		pick(valid.MTime, valid.MTimeNotSystemTime, a.MTimeSeconds, a.MTimeNanoSeconds),
	}, 0))
}

// reopen opens the contents of the file. A guest may not open what does
// something when it is opened: a device, or a pipe.
func (h *handle) reopen(flags int) (int, error) {
	st, err := h.stat()
	if err != nil {
		return -1, err
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
		return -1, linux.EPERM
	}
	fd, err := unix.Open(h.path(), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	return fd, wire(err)
}

// openFlags are those of open(2) that a guest may use; the others are its own
// kernel's affair.
const openFlags = unix.O_ACCMODE | unix.O_TRUNC | unix.O_APPEND | unix.O_DSYNC | unix.O_SYNC | unix.O_NOATIME

// Open implements p9.File.
func (h *handle) Open(mode p9.OpenFlags) (p9.QID, uint32, error) {
	flags := int(mode) & openFlags
	if flags&(unix.O_ACCMODE|unix.O_TRUNC) != unix.O_RDONLY {
		if err := h.writable(); err != nil {
			return p9.QID{}, 0, err
		}
	}
	fd, err := h.reopen(flags)
	if err != nil {
		return p9.QID{}, 0, err
	}
	h.opened = fd
	st, err := h.stat()
	return qid(&st), 0, err
}

// ReadAt implements p9.File.
func (h *handle) ReadAt(p []byte, offset int64) (int, error) {
	n, err := unix.Pread(h.opened, p, offset)
	return max(n, 0), wire(err)
}

// WriteAt implements p9.File.
func (h *handle) WriteAt(p []byte, offset int64) (int, error) {
	n, err := unix.Pwrite(h.opened, p, offset)
	return max(n, 0), wire(err)
}

// FSync implements p9.File.
func (h *handle) FSync() error { return wire(unix.Fsync(h.opened)) }

// Lock implements p9.File. The lock belongs to the opened file, as with flock(2).
func (h *handle) Lock(_ int, kind p9.LockType, _ p9.LockFlags, start, length uint64, _ string) (p9.LockStatus, error) {
	lock := unix.Flock_t{Start: int64(start), Len: int64(length)}
	switch kind {
	case p9.ReadLock:
		lock.Type = unix.F_RDLCK
	case p9.WriteLock:
		lock.Type = unix.F_WRLCK
	case p9.Unlock:
		lock.Type = unix.F_UNLCK
	default:
		return p9.LockStatusError, linux.EINVAL
	}
	// A guest that wants to wait asks again.
	switch err := unix.FcntlFlock(uintptr(h.opened), unix.F_OFD_SETLK, &lock); err {
	case nil:
		return p9.LockStatusOK, nil
	case unix.EAGAIN, unix.EACCES:
		return p9.LockStatusBlocked, nil
	default:
		return p9.LockStatusError, wire(err)
	}
}

// Close implements p9.File.
func (h *handle) Close() error {
	h.folder.handles.Add(-1)
	if h.opened >= 0 {
		unix.Close(h.opened)
	}
	return wire(unix.Close(h.fd))
}

// Readdir implements p9.File.
func (h *handle) Readdir(offset uint64, count uint32) (p9.Dirents, error) {
	h.dir.Lock()
	defer h.dir.Unlock()
	if _, err := unix.Seek(h.opened, int64(offset), 0); err != nil {
		return nil, wire(err)
	}
	// An entry is about as large here as in the answer; what the answer has
	// no room for is asked for again.
	buf := make([]byte, min(max(count, 512), 64<<10))
	n, err := unix.Getdents(h.opened, buf)
	if err != nil {
		return nil, wire(err)
	}
	return parseDirents(buf[:n]), nil
}

// parseDirents takes apart what getdents64(2) returns.
func parseDirents(buf []byte) p9.Dirents {
	const fixed = 19 // before the name
	var all p9.Dirents
	for len(buf) >= fixed {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		kind := buf[18]
		name, _, _ := strings.Cut(string(buf[fixed:size]), "\x00")
		all = append(all, p9.Dirent{
			QID:    p9.QID{Type: p9.FileMode(uint32(kind) << 12).QIDType(), Path: binary.NativeEndian.Uint64(buf)},
			Offset: binary.NativeEndian.Uint64(buf[8:]),
			Type:   p9.QIDType(kind), // Linux has the type of getdents64 there
			Name:   name,
		})
		buf = buf[size:]
	}
	return all
}

// Readlink implements p9.File.
func (h *handle) Readlink() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(h.fd, "", buf)
	if err != nil {
		return "", wire(err)
	}
	return string(buf[:n]), nil
}

// Renamed implements p9.File: a handle is of a file, and not of its name.
func (h *handle) Renamed(p9.File, string) {}
