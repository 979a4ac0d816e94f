package share

import (
	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"
	"golang.org/x/sys/unix"
)

// change checks whether entries with these names may be changed.
func (h *handle) change(names ...string) error {
	if err := h.writable(); err != nil {
		return err
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// Create implements p9.File.
func (h *handle) Create(name string, mode p9.OpenFlags, permissions p9.FileMode, _ p9.UID, _ p9.GID) (p9.File, p9.QID, uint32, error) {
	if err := h.change(name); err != nil {
		return nil, p9.QID{}, 0, err
	}
	flags := int(mode)&openFlags | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(h.fd, name, flags, permissionBits(permissions))
	if err == unix.EEXIST && int(mode)&unix.O_EXCL == 0 {
		return h.openExisting(name, mode)
	}
	to, err := h.folder.handle(fd, err)
	if err != nil {
		return nil, p9.QID{}, 0, err
	}
	// The guest has applied the umask that counts.
	err = unix.Fchmod(fd, permissionBits(permissions))
	if err == nil {
		to.opened, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	st, statErr := to.stat()
	if err == nil {
		err = statErr
	}
	if err != nil {
		to.Close()
		return nil, p9.QID{}, 0, wire(err)
	}
	return to, qid(&st), 0, nil
}

// openExisting is Create for a file that somebody else has made meanwhile.
func (h *handle) openExisting(name string, mode p9.OpenFlags) (p9.File, p9.QID, uint32, error) {
	to, err := h.child(name)
	if err != nil {
		return nil, p9.QID{}, 0, err
	}
	q, unit, err := to.Open(mode)
	if err != nil {
		to.Close()
		return nil, p9.QID{}, 0, err
	}
	return to, q, unit, nil
}

// made is the QID of an entry that was just made, with the permissions that the
// guest asked for.
func (h *handle) made(name string, permissions p9.FileMode, err error) (p9.QID, error) {
	if err != nil {
		return p9.QID{}, wire(err)
	}
	to, err := h.child(name)
	if err != nil {
		return p9.QID{}, err
	}
	defer to.Close()
	st, err := to.stat()
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		err = wire(unix.Fchmodat(unix.AT_FDCWD, to.path(), permissionBits(permissions), 0))
	}
	return qid(&st), err
}

// Mkdir implements p9.File.
func (h *handle) Mkdir(name string, permissions p9.FileMode, _ p9.UID, _ p9.GID) (p9.QID, error) {
	if err := h.change(name); err != nil {
		return p9.QID{}, err
	}
	return h.made(name, permissions, unix.Mkdirat(h.fd, name, permissionBits(permissions)))
}

// Symlink implements p9.File.
func (h *handle) Symlink(target, name string, _ p9.UID, _ p9.GID) (p9.QID, error) {
	if err := h.change(name); err != nil {
		return p9.QID{}, err
	}
	return h.made(name, 0, unix.Symlinkat(target, h.fd, name))
}

// Link implements p9.File.
func (h *handle) Link(target p9.File, name string) error {
	if err := h.change(name); err != nil {
		return err
	}
	return wire(unix.Linkat(unix.AT_FDCWD, target.(*handle).path(), h.fd, name, unix.AT_SYMLINK_FOLLOW))
}

// Mknod implements p9.File. Devices are not for guests to make.
func (h *handle) Mknod(name string, mode p9.FileMode, _, _ uint32, _ p9.UID, _ p9.GID) (p9.QID, error) {
	if err := h.change(name); err != nil {
		return p9.QID{}, err
	}
	if mode.IsBlockDevice() || mode.IsCharacterDevice() {
		return p9.QID{}, linux.EPERM
	}
	return h.made(name, mode, unix.Mknodat(h.fd, name, uint32(mode), 0))
}

// Rename implements p9.File. The server calls RenameAt instead.
func (h *handle) Rename(p9.File, string) error { return linux.ENOSYS }

// RenameAt implements p9.File.
func (h *handle) RenameAt(name string, to p9.File, newName string) error {
	if err := h.change(name, newName); err != nil {
		return err
	}
	return wire(unix.Renameat(h.fd, name, to.(*handle).fd, newName))
}

// UnlinkAt implements p9.File.
func (h *handle) UnlinkAt(name string, flags uint32) error {
	if err := h.change(name); err != nil {
		return err
	}
	return wire(unix.Unlinkat(h.fd, name, int(flags)&unix.AT_REMOVEDIR))
}

// SetXattr implements p9.File.
func (h *handle) SetXattr(string, []byte, p9.XattrFlags) error { return linux.ENOTSUP }

// GetXattr implements p9.File.
func (h *handle) GetXattr(string) ([]byte, error) { return nil, linux.ENOTSUP }

// ListXattrs implements p9.File.
func (h *handle) ListXattrs() ([]string, error) { return nil, linux.ENOTSUP }

// RemoveXattr implements p9.File.
func (h *handle) RemoveXattr(string) error { return linux.ENOTSUP }
