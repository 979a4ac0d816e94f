package share

import "golang.org/x/sys/unix"

// Attributes are what is to change of a file: those that are not nil.
type Attributes struct {
	UID, GID     *uint32
	Mode         *uint32 // permissions
	Size         *int64
	ATime, MTime *unix.Timespec // with UTIME_NOW for the present
	// Touch has the time of the last change set, which the others do anyway.
	Touch bool
}

// SetAttributes changes what a says. When one change fails, those after it are
// not made; Linux asks for one at a time, but for the times.
func (n *Node) SetAttributes(a Attributes) error {
	if err := n.change(); err != nil {
		return err
	}
	if a.UID != nil || a.GID != nil || a.Touch {
		if err := unix.Fchownat(n.fd, "", id(a.UID), id(a.GID), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if a.Mode != nil {
		if err := n.chmod(*a.Mode); err != nil {
			return err
		}
	}
	if a.Size != nil {
		// This asks for the right to write anew; File has it already.
		if err := again(func() error { return unix.Truncate(n.path(), *a.Size) }); err != nil {
			return err
		}
	}
	if a.ATime == nil && a.MTime == nil {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	for i, t := range []*unix.Timespec{a.ATime, a.MTime} {
		if t != nil {
			times[i] = *t
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, n.path(), times, 0)
}

// id is an argument of chown(2), where -1 leaves the owner as it is.
func id(p *uint32) int {
	if p == nil {
		return -1
	}
	return int(int32(*p))
}

// chmod sets permissions. A symbolic link has none, and what it leads to is
// nobody's business here: the link itself is refused by Linux.
func (n *Node) chmod(mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, n.path(), mode&permissionBits, 0)
}
