package ninep

import (
	"sync"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// attribute is an extended attribute of a file while it is read or written. Its
// value counts in the budget, and so does what there is beside it.
type attribute struct {
	budget *share.Budget

	// To be set when the fid goes; node is nil for one that is read.
	node  *share.Node
	name  string
	flags int

	mu      sync.Mutex
	value   []byte
	written int // from the start
}

// attributeSize is what an attribute takes beside its value, at the most.
const attributeSize = 512

// newAttribute counts a value of n bytes.
func newAttribute(budget *share.Budget, n int) (*attribute, error) {
	if err := budget.TakeBytes(attributeSize + n); err != nil {
		return nil, err
	}
	return &attribute{budget: budget, value: make([]byte, n)}, nil
}

func (a *attribute) close() {
	a.budget.GiveBytes(attributeSize + len(a.value))
	if a.node != nil {
		a.node.Close()
	}
}

func (a *attribute) read(into [][]byte, offset uint64) (n int, err error) {
	if a.node != nil {
		return 0, unix.EBADF
	}
	for _, piece := range into {
		if offset < uint64(len(a.value)) {
			k := copy(piece, a.value[offset:])
			offset += uint64(k)
			n += k
		}
	}
	return n, nil
}

// write takes the value in order, as Linux sends it.
func (a *attribute) write(from [][]byte, offset uint64) (n int, err error) {
	if a.node == nil {
		return 0, unix.EBADF
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if offset != uint64(a.written) || length(from) > uint64(len(a.value)-a.written) {
		return 0, unix.EINVAL
	}
	for _, piece := range from {
		n += copy(a.value[a.written+n:], piece)
	}
	a.written += n
	return n, nil
}

// set sets the attribute, if that is what it is for.
func (a *attribute) set() error {
	if a.node == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.written != len(a.value):
		return unix.EINVAL
	case len(a.value) == 0 && a.flags&unix.XATTR_REPLACE != 0: // Linux's way of removing it
		return a.node.RemoveAttribute(a.name)
	}
	return a.node.SetAttribute(a.name, a.value, a.flags)
}

// xattrwalk makes a fid of an extended attribute's value, or, without a name, of
// the list of names.
func (c *call) xattrwalk(m xattrwalkMessage) error {
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	read := f.node.AttributeNames
	if m.name != "" {
		read = func() ([]byte, error) { return f.node.Attribute(m.name) }
	}
	value, err := read()
	if err != nil {
		return err
	}
	a, err := newAttribute(c.server.folder.Budget(), len(value))
	if err != nil {
		return err
	}
	a.value = value
	c.long(uint64(len(value)))
	return c.session.add(m.newFID, newFID(&fid{attr: a}))
}

// xattrcreate makes a fid one of an extended attribute, which is set when it has
// been written and the fid goes.
func (c *call) xattrcreate(m xattrcreateMessage) error {
	f, err := c.node(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	if m.size > share.MaxAttribute {
		return unix.E2BIG
	}
	if err := f.node.MayChangeAttribute(m.name); err != nil {
		return err
	}
	a, err := newAttribute(c.server.folder.Budget(), int(m.size))
	if err != nil {
		return err
	}
	a.name, a.flags = m.name, int(m.flags)
	if a.node, err = f.node.Clone(); err != nil {
		a.node = nil
		a.close()
		return err
	}
	return c.session.put(m.fid, f, newFID(&fid{attr: a}))
}
