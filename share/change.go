package share

import "golang.org/x/sys/unix"

// Owner is whom a new file is to belong to, as the guest sees it.
type Owner struct{ UID, GID uint32 }

// permissionBits are those of a mode that a guest may set. The set-user-ID and
// set-group-ID bits are not among them: a guest makes no program for the host
// that has more rights than who starts it.
const permissionBits = 0o1777

// change is an error where entries with these names may not be changed.
func (n *Node) change(names ...string) error {
	if err := n.folder.writable(); err != nil {
		return err
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// Create makes a regular file and opens it, as openat(2) does with these flags;
// one that is there already is opened, unless they have O_EXCL.
func (n *Node) Create(name string, flags int, mode uint32, owner Owner) (*File, *unix.Stat_t, error) {
	if err := n.change(name); err != nil {
		return nil, nil, err
	}
	fd, err := n.openAt(name, flags&openFlags|unix.O_CREAT|unix.O_EXCL, mode&permissionBits)
	if err == unix.EEXIST && flags&unix.O_EXCL == 0 {
		there, _, err := n.Lookup(name)
		if err != nil {
			return nil, nil, err
		}
		defer there.Close()
		return there.Open(flags)
	}
	if err != nil {
		return nil, nil, err
	}
	to, st, err := n.folder.node(fd, n)
	if err != nil {
		return nil, nil, err
	}
	if err := to.adopt(st, mode, owner); err != nil {
		to.Close()
		return nil, nil, err
	}
	return newFile(to, flags), st, nil
}

// made is what is known of an entry that was just made.
func (n *Node) made(err error, name string, mode uint32, owner Owner) (*unix.Stat_t, error) {
	if err != nil {
		return nil, err
	}
	to, st, err := n.Lookup(name)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	return st, to.adopt(st, mode, owner)
}

// adopt gives a new file the owner, if this process may give files away, and
// the permissions that the guest asked for: it is the guest's umask that counts.
func (n *Node) adopt(st *unix.Stat_t, mode uint32, owner Owner) error {
	if owner.UID != st.Uid || owner.GID != st.Gid {
		err := unix.Fchownat(n.fd, "", int(int32(owner.UID)), int(int32(owner.GID)), unix.AT_EMPTY_PATH)
		if err != nil && err != unix.EPERM && err != unix.EINVAL {
			return err
		}
	}
	if n.kind == unix.S_IFLNK || (st.Mode^mode)&permissionBits == 0 {
		return nil
	}
	// A folder keeps the bit that has entries inherit its group, where it has
	// inherited that itself.
	return unix.Fchmodat(unix.AT_FDCWD, n.path(), mode&permissionBits|st.Mode&unix.S_ISGID, 0)
}

// Mkdir makes a folder.
func (n *Node) Mkdir(name string, mode uint32, owner Owner) (*unix.Stat_t, error) {
	if err := n.change(name); err != nil {
		return nil, err
	}
	return n.made(unix.Mkdirat(n.fd, name, mode&permissionBits), name, mode, owner)
}

// Symlink makes a symbolic link to target, which may be anything.
func (n *Node) Symlink(target, name string, owner Owner) (*unix.Stat_t, error) {
	if err := n.change(name); err != nil {
		return nil, err
	}
	return n.made(unix.Symlinkat(target, n.fd, name), name, 0, owner)
}

// Mknod makes a regular file, a pipe or a socket; devices are not for guests to
// make.
func (n *Node) Mknod(name string, mode uint32, owner Owner) (*unix.Stat_t, error) {
	if err := n.change(name); err != nil {
		return nil, err
	}
	switch mode & unix.S_IFMT {
	case 0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
		return nil, unix.EPERM
	default:
		return nil, unix.EINVAL
	}
	return n.made(unix.Mknodat(n.fd, name, mode&(unix.S_IFMT|permissionBits), 0), name, mode, owner)
}

// Link makes another name for a file.
func (n *Node) Link(file *Node, name string) error {
	if err := n.change(name); err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, file.path(), n.fd, name, unix.AT_SYMLINK_FOLLOW)
}

// Rename moves an entry, to another folder or within its own.
func (n *Node) Rename(name string, to *Node, newName string) error {
	if err := n.change(name, newName); err != nil {
		return err
	}
	if err := to.change(); err != nil {
		return err
	}
	return unix.Renameat(n.fd, name, to.fd, newName)
}

// Unlink removes an entry; a folder, if flags has AT_REMOVEDIR, which must be
// empty.
func (n *Node) Unlink(name string, flags int) error {
	if err := n.change(name); err != nil {
		return err
	}
	return unix.Unlinkat(n.fd, name, flags&unix.AT_REMOVEDIR)
}
