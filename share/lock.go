package share

import (
	"math"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Lock is a lock on a range of a file, as fcntl(2) has it.
type Lock struct {
	Type          int16 // F_RDLCK, F_WRLCK or F_UNLCK
	Start, Length int64 // a length of 0 goes on to the end, wherever that is
}

// locks are those that a file holds on the host. They belong to the opened file,
// as with flock(2), and go with it.
type locks struct {
	mu   sync.Mutex
	file *Node  // that holds them, if not the file itself
	held []span // in order
}

// span is a range of bytes that is locked.
type span struct {
	start, end int64 // with end itself
	kind       int16
}

// SetLock takes or releases a lock, and does not wait: an error of EAGAIN says that
// somebody else has it. In a folder that may only be read, the lock is looked at
// and not taken: a guest that may change nothing keeps nobody on the host from
// changing things.
func (f *File) SetLock(l Lock) error {
	end := int64(math.MaxInt64)
	switch {
	case l.Type != unix.F_RDLCK && l.Type != unix.F_WRLCK && l.Type != unix.F_UNLCK:
		return unix.EINVAL
	case l.Start < 0 || l.Length < 0 || l.Length > 0 && l.Start > math.MaxInt64-(l.Length-1):
		return unix.EINVAL
	case l.Length > 0:
		end = l.Start + l.Length - 1
	}
	if f.folder.readOnly {
		return f.lookAt(l)
	}
	f.locks.mu.Lock()
	defer f.locks.mu.Unlock()
	held := lockSpan(f.locks.held, span{l.Start, end, l.Type})
	more := int64(len(held) - len(f.locks.held))
	count := &f.folder.budget.locks
	if more > 0 && !count.take(more) {
		return unix.ENOLCK
	}
	lock := unix.Flock_t{Type: l.Type, Start: l.Start, Len: l.Length}
	if err := unix.FcntlFlock(f.lockDescriptor(), unix.F_OFD_SETLK, &lock); err != nil {
		if more > 0 {
			count.give(more)
		}
		if err == unix.EACCES {
			err = unix.EAGAIN
		}
		return err
	}
	if more < 0 {
		count.give(-more)
	}
	f.locks.held = held
	return nil
}

// lookAt is an error of EAGAIN if the lock could not be had.
func (f *File) lookAt(l Lock) error {
	if l.Type == unix.F_UNLCK {
		return nil
	}
	there, err := f.GetLock(l)
	if err == nil && there.Type != unix.F_UNLCK {
		err = unix.EAGAIN
	}
	return err
}

// GetLock is the first lock that keeps l from being had, or one of F_UNLCK.
func (f *File) GetLock(l Lock) (Lock, error) {
	f.locks.mu.Lock()
	defer f.locks.mu.Unlock()
	lock := unix.Flock_t{Type: l.Type, Start: l.Start, Len: l.Length}
	err := unix.FcntlFlock(f.holder(), unix.F_OFD_GETLK, &lock)
	return Lock{Type: lock.Type, Start: lock.Start, Length: lock.Len}, err
}

// lockDescriptor is the descriptor that holds the locks. fcntl(2) wants a file that
// is open for writing where flock(2), which comes as the same message, does not.
func (f *File) lockDescriptor() uintptr {
	if f.access != unix.O_RDWR && f.locks.file == nil && len(f.locks.held) == 0 {
		if fd, err := f.reopen(unix.O_RDWR); err == nil {
			// Without one, the lock fails or not, as the file's own may.
			f.locks.file, _, _ = f.folder.node(fd, f.Node)
		}
	}
	return f.holder()
}

func (f *File) holder() uintptr {
	if f.locks.file != nil {
		return uintptr(f.locks.file.fd)
	}
	return uintptr(f.fd)
}

// close lets go of the locks.
func (l *locks) close(b *Budget) {
	b.locks.give(int64(len(l.held)))
	if l.file != nil {
		l.file.Close()
	}
}

// lockSpan is what is held when s has been locked, or unlocked, in the same way
// as the kernel has it: neighbours of one kind are one.
func lockSpan(held []span, s span) []span {
	out := make([]span, 0, len(held)+2)
	for _, h := range held {
		if h.start < s.start {
			left := h
			left.end = min(h.end, s.start-1)
			out = append(out, left)
		}
		if h.end > s.end {
			right := h
			right.start = max(h.start, s.end+1)
			out = append(out, right)
		}
	}
	if s.kind != unix.F_UNLCK {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b span) int {
		if a.start < b.start {
			return -1
		}
		return 1 // no two begin at the same byte
	})
	merged := out[:0]
	for _, h := range out {
		if last := len(merged) - 1; last >= 0 && merged[last].kind == h.kind && merged[last].end == h.start-1 {
			merged[last].end = h.end
		} else {
			merged = append(merged, h)
		}
	}
	return merged
}
