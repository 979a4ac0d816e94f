package ninep

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// fid is what a number of the client's stands for. Nothing of it changes: to open a
// file, say, puts another fid in its place. Each request that works with it holds
// it, and the last one to let go closes what it has, so that nothing is closed
// beside a request.
type fid struct {
	node *share.Node
	file *share.File // its node, when it has been opened
	attr *attribute  // instead of the file: one of its extended attributes
	uid  uint32      // of the guest's user
	// stale: the file was another server's, and could not be found again.
	stale bool

	holders atomic.Int32
}

// newFID returns a fid that has its first holder. It owns what is in it.
func newFID(f *fid) *fid {
	f.holders.Store(1)
	return f
}

// release lets go of the fid.
func (f *fid) release() {
	if f.holders.Add(-1) > 0 {
		return
	}
	switch {
	case f.attr != nil:
		f.attr.close()
	case f.file != nil:
		f.file.Close()
	case f.node != nil:
		f.node.Close()
	}
}

// fids are the fids of a session, by number.
type fids struct {
	mu    sync.Mutex
	all   map[uint32]*fid
	ended bool // no more are taken
}

func newFIDs() *fids { return &fids{all: map[uint32]*fid{}} }

// get returns a fid, held for the caller.
func (t *fids) get(number uint32) (*fid, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.all[number]
	if f == nil {
		return nil, unix.EBADF
	}
	if f.stale {
		return nil, unix.ESTALE
	}
	f.holders.Add(1)
	return f, nil
}

// add gives f a number that none has, put the one of another, which must still
// have it. Both take f over: with an error, it has been let go of.
func (t *fids) add(number uint32, f *fid) error { return t.put(number, nil, f) }

func (t *fids) put(number uint32, old, f *fid) error {
	t.mu.Lock()
	ok := !t.ended && number != noFID && t.all[number] == old
	if ok {
		t.all[number] = f
	}
	t.mu.Unlock()
	switch {
	case !ok:
		f.release()
		return unix.EBADF
	case old != nil:
		old.release()
	}
	return nil
}

// remove takes a fid out, for the caller to let go of.
func (t *fids) remove(number uint32) (*fid, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.all[number]
	if f == nil {
		return nil, unix.EBADF
	}
	delete(t.all, number)
	return f, nil
}

// end lets go of all fids. Requests that are under way go on with theirs.
func (t *fids) end() {
	t.mu.Lock()
	all := t.all
	t.all, t.ended = nil, true
	t.mu.Unlock()
	for _, f := range all {
		f.release()
	}
}
