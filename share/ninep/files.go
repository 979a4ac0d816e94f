package ninep

import (
	"math"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// opened is a fid of an opened file, held for the caller.
func (c *call) opened(number uint32) (*fid, error) {
	f, err := c.session.get(number)
	if err == nil && f.file == nil {
		f.release()
		return nil, unix.EBADF
	}
	return f, err
}

// lopen opens the file of a fid. The flags are those of open(2).
func (c *call) lopen(m lopenMessage) error {
	f, err := c.unopened(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	file, st, err := f.node.Open(int(m.flags))
	if err != nil {
		return err
	}
	return c.openedAs(m.fid, f, file, st)
}

// lcreate makes a file in the folder of a fid, which then is the file's.
func (c *call) lcreate(m createMessage) error {
	f, err := c.unopened(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	file, st, err := f.node.Create(m.name, int(m.flags), m.mode, f.owner(m.gid))
	if err != nil {
		return err
	}
	return c.openedAs(m.fid, f, file, st)
}

// unopened is a fid of a file that has not been opened, held for the caller.
func (c *call) unopened(number uint32) (*fid, error) {
	f, err := c.session.get(number)
	if err == nil && (f.node == nil || f.file != nil) {
		f.release()
		return nil, unix.EBADF
	}
	return f, err
}

func (c *call) openedAs(number uint32, old *fid, file *share.File, st *unix.Stat_t) error {
	c.qid(qidOf(file.Node, st))
	c.word(0) // what is read and written at once: as much as there is room for
	return c.session.put(number, old, newFID(&fid{node: file.Node, file: file, uid: old.uid}))
}

// owner is whom a file belongs to that is made by way of the fid.
func (f *fid) owner(gid uint32) share.Owner { return share.Owner{UID: f.uid, GID: gid} }

// count is how many bytes of data may be in an answer, of n that are asked for.
func (c *call) count(n uint32) uint64 {
	room := min(length(c.room), uint64(c.session.msize))
	if room < ioHeaderSize {
		return 0
	}
	return min(uint64(n), room-ioHeaderSize)
}

// read reads from a file, or from an extended attribute, into the client's memory.
func (c *call) read(m readMessage) error {
	f, err := c.session.get(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	if m.offset > math.MaxInt64 {
		return unix.EINVAL
	}
	into := c.part(c.room, ioHeaderSize, c.count(m.count))
	switch {
	case f.attr != nil:
		c.data, err = f.attr.read(into, m.offset)
	case f.file != nil:
		c.data, err = f.file.ReadAt(into, int64(m.offset))
	default:
		err = unix.EBADF
	}
	c.word(uint32(c.data))
	return err
}

// write writes to a file, or to an extended attribute, from the client's memory.
func (c *call) write(m writeMessage) error {
	f, err := c.session.get(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	if m.count != c.size-writeHeaderSize || m.offset > math.MaxInt64 {
		return unix.EINVAL
	}
	from := c.part(c.in, writeHeaderSize, uint64(m.count))
	n := 0
	switch {
	case f.attr != nil:
		n, err = f.attr.write(from, m.offset)
	case f.file != nil:
		n, err = f.file.WriteAt(from, int64(m.offset))
	default:
		err = unix.EBADF
	}
	c.word(uint32(n))
	return err
}

// fsync makes a file permanent.
func (c *call) fsync(m fsyncMessage) error {
	f, err := c.opened(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	return f.file.Sync(m.dataOnly != 0)
}

// entriesSize is how much of a folder is read at once.
const entriesSize = 32 << 10

// readdir reads entries of a folder.
func (c *call) readdir(m readMessage) error {
	f, err := c.opened(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	if c.entries == nil {
		c.entries = make([]byte, entriesSize)
	}
	limit := ioHeaderSize + int(c.count(m.count))
	c.word(0)
	any := false
	err = f.file.ReadDirectory(int64(m.offset), c.entries, func(e share.Entry) bool {
		any = true
		const fixed = 13 + 8 + 1 + 2
		if len(c.reply)+fixed+len(e.Name) > limit {
			return false
		}
		c.qid(qid{kind: qidKind(e.Type), path: e.ID})
		c.long(uint64(e.Offset))
		c.byte(e.Type)
		c.half(uint16(len(e.Name)))
		c.reply = append(c.reply, e.Name...)
		return true
	})
	if err != nil {
		return err
	}
	size := len(c.reply) - ioHeaderSize
	if any && size == 0 {
		return unix.EINVAL // no room for one: nothing would be the end
	}
	le.PutUint32(c.reply[headerSize:], uint32(size))
	return nil
}
