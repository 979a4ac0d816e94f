package ninep

import "golang.org/x/sys/unix"

// made answers with the QID of an entry that was made in the folder of a fid.
func (c *call) made(number uint32, make func(f *fid) (*unix.Stat_t, error)) error {
	f, err := c.node(number)
	if err != nil {
		return err
	}
	defer f.release()
	st, err := make(f)
	if err == nil {
		c.qid(qidOf(f.node, st))
	}
	return err
}

// mkdir makes a folder.
func (c *call) mkdir(m mkdirMessage) error {
	return c.made(m.fid, func(f *fid) (*unix.Stat_t, error) {
		return f.node.Mkdir(m.name, m.mode, f.owner(m.gid))
	})
}

// mknod makes a pipe, a socket, a regular file.
func (c *call) mknod(m mknodMessage) error {
	return c.made(m.fid, func(f *fid) (*unix.Stat_t, error) {
		return f.node.Mknod(m.name, m.mode, f.owner(m.gid))
	})
}

// symlink makes a symbolic link.
func (c *call) symlink(m symlinkMessage) error {
	return c.made(m.fid, func(f *fid) (*unix.Stat_t, error) {
		return f.node.Symlink(m.target, m.name, f.owner(m.gid))
	})
}

// both are two fids of files, held for the caller.
func (c *call) both(one, two uint32) (*fid, *fid, error) {
	a, err := c.node(one)
	if err != nil {
		return nil, nil, err
	}
	b, err := c.node(two)
	if err != nil {
		a.release()
	}
	return a, b, err
}

// link makes another name for a file.
func (c *call) link(m linkMessage) error {
	directory, f, err := c.both(m.directory, m.fid)
	if err != nil {
		return err
	}
	defer directory.release()
	defer f.release()
	return directory.node.Link(f.node, m.name)
}

// rename moves an entry.
func (c *call) rename(m renameMessage) error {
	from, to, err := c.both(m.fid, m.newFID)
	if err != nil {
		return err
	}
	defer from.release()
	defer to.release()
	return from.node.Rename(m.name, to.node, m.newName)
}

// unlink removes an entry.
func (c *call) unlink(m unlinkMessage) error {
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	return f.node.Unlink(m.name, int(m.flags))
}
