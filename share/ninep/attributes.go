package ninep

import (
	"golang.org/x/sys/unix"

	"vmm/share"
)

// node is a fid of a file, opened or not, held for the caller.
func (c *call) node(number uint32) (*fid, error) {
	f, err := c.session.get(number)
	if err == nil && f.node == nil {
		f.release()
		return nil, unix.EBADF
	}
	return f, err
}

// getattr says what is known of a file: what stat(2) does, whatever was asked for.
func (c *call) getattr(m getattrMessage) error {
	const basic = 0x7ff // P9_GETATTR_BASIC
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	st, err := f.node.Stat()
	if err != nil {
		return err
	}
	c.long(basic)
	c.qid(qidOf(f.node, st))
	c.word(st.Mode)
	c.word(st.Uid)
	c.word(st.Gid)
	c.long(uint64(st.Nlink))
	c.long(st.Rdev)
	c.long(uint64(st.Size))
	c.long(uint64(st.Blksize))
	c.long(uint64(st.Blocks))
	for _, t := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim, {}} { // and none of birth
		c.long(uint64(t.Sec))
		c.long(uint64(t.Nsec))
	}
	c.long(0) // generation
	c.long(0) // version of the data
	return nil
}

// What a Tsetattr changes. P9_ATTR_*.
const (
	setMode = 1 << iota
	setUID
	setGID
	setSize
	setATime
	setMTime
	setCTime
	givenATime // not the present
	givenMTime
)

// setattr changes what is known of a file.
func (c *call) setattr(m setattrMessage) error {
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	var a share.Attributes
	if m.valid&setMode != 0 {
		a.Mode = &m.mode
	}
	if m.valid&setUID != 0 {
		a.UID = &m.uid
	}
	if m.valid&setGID != 0 {
		a.GID = &m.gid
	}
	if size := int64(m.size); m.valid&setSize != 0 {
		a.Size = &size
	}
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	pick := func(set, given uint32, t *unix.Timespec) *unix.Timespec {
		switch {
		case m.valid&set == 0:
			return nil
		case m.valid&given == 0:
			return &now
		}
		return t
	}
	a.ATime = pick(setATime, givenATime, &m.atime)
	a.MTime = pick(setMTime, givenMTime, &m.mtime)
	a.Touch = m.valid&setCTime != 0 && a.ATime == nil && a.MTime == nil
	if f.file != nil {
		return f.file.SetAttributes(a)
	}
	return f.node.SetAttributes(a)
}

// statfs says what is known of the file system that a file is in.
func (c *call) statfs(m fidMessage) error {
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	st, err := f.node.StatFS()
	if err != nil {
		return err
	}
	c.word(0x01021997) // V9FS_MAGIC of <linux/magic.h>
	c.word(uint32(st.Bsize))
	for _, v := range []uint64{
		st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree,
		uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32,
	} {
		c.long(v)
	}
	c.word(uint32(st.Namelen))
	return nil
}

// readlink says where a symbolic link leads.
func (c *call) readlink(m fidMessage) error {
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	target, err := f.node.ReadLink()
	c.text(target)
	return err
}
