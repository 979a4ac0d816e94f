package ninep

import (
	"golang.org/x/sys/unix"

	"vmm/share"
)

// Kinds of locks on the wire. P9_LOCK_TYPE_*.
var lockKinds = [...]int16{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK}

// What became of a Tlock. P9_LOCK_*.
const (
	lockTaken = iota
	lockBlocked
)

// onWire is the number of a kind of lock.
func onWire(kind int16) uint8 {
	for i, k := range lockKinds {
		if k == kind {
			return uint8(i)
		}
	}
	return uint8(len(lockKinds))
}

// lock takes a lock or releases it. A client that wants to wait for one asks again.
func (c *call) lock(m lockMessage) error {
	f, err := c.opened(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	if int(m.kind) >= len(lockKinds) {
		return unix.EINVAL
	}
	err = f.file.SetLock(share.Lock{Type: lockKinds[m.kind], Start: int64(m.start), Length: int64(m.length)})
	switch err {
	case nil:
		c.byte(lockTaken)
	case unix.EAGAIN:
		c.byte(lockBlocked)
	default:
		return err
	}
	return nil
}

// getlock says which lock keeps the client from having one. Linux asks with no kind
// of lock what would keep it from writing.
func (c *call) getlock(m getlockMessage) error {
	f, err := c.opened(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	kind := int16(unix.F_WRLCK)
	if int(m.kind) < len(lockKinds) && lockKinds[m.kind] == unix.F_RDLCK {
		kind = unix.F_RDLCK
	}
	l, err := f.file.GetLock(share.Lock{Type: kind, Start: int64(m.start), Length: int64(m.length)})
	if err != nil {
		return err
	}
	c.byte(onWire(l.Type))
	c.long(uint64(l.Start))
	c.long(uint64(l.Length))
	c.word(m.process)
	c.text(m.client)
	return nil
}
