package ninep

import (
	"strings"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// version begins a session. What is under way is answered as if it were over
// already: its fids mean nothing any more.
func (c *call) version(m versionMessage) error {
	if m.msize < minMessage {
		return unix.EMSGSIZE
	}
	msize, dialect := min(m.msize, maxMessage), version
	if m.version != version {
		dialect = "unknown" // by the protocol, not an error
	}
	c.server.begin(msize)
	c.word(msize)
	c.text(dialect)
	return nil
}

// attach makes a fid of the folder, or of one below it.
func (c *call) attach(m attachMessage) error {
	node, err := c.server.folder.Root()
	if err != nil {
		return err
	}
	names := strings.FieldsFunc(m.tree, func(r rune) bool { return r == '/' })
	to, qids, err := walk(node, names)
	node.Close()
	if err != nil {
		return err
	}
	if to == nil {
		return unix.ENOENT
	}
	c.qid(qids[len(qids)-1])
	return c.session.add(m.fid, newFID(&fid{node: to, uid: m.uid}))
}

// flush is answered when the message that it names has been; see Server.wait.
func (c *call) flush(flushMessage) error { return nil }

// walk makes a fid of what is some steps below another. When not the first but a
// later step fails, the answer says how far it went, and makes no fid.
func (c *call) walk(m walkMessage) error {
	from, err := c.session.get(m.fid)
	if err != nil {
		return err
	}
	defer from.release()
	if from.node == nil {
		return unix.EINVAL
	}
	to, qids, err := walk(from.node, m.names)
	if err != nil {
		return err
	}
	c.half(uint16(len(qids) - 1))
	for _, q := range qids[1:] {
		c.qid(q)
	}
	if to == nil {
		return nil
	}
	next := newFID(&fid{node: to, uid: from.uid})
	if m.newFID != m.fid {
		return c.session.add(m.newFID, next)
	}
	return c.session.put(m.fid, from, next)
}

// walk takes steps from a node: where they lead, for the caller to close, and the
// QIDs of the start and of each step. Where a later step than the first fails,
// to is nil.
func walk(from *share.Node, names []string) (to *share.Node, qids []qid, err error) {
	st, err := from.Stat()
	if err != nil {
		return nil, nil, err
	}
	qids = append(make([]qid, 0, len(names)+1), qidOf(from, st))
	if len(names) == 0 {
		to, err = from.Clone()
		return to, qids, err
	}
	for i, name := range names {
		next, st, err := from.Lookup(name)
		if i > 0 {
			from.Close()
		}
		if err != nil {
			if i == 0 {
				return nil, nil, err
			}
			return nil, qids, nil
		}
		qids = append(qids, qidOf(next, st))
		from = next
	}
	return from, qids, nil
}

// clunk lets go of a fid. An extended attribute that was written is set now.
func (c *call) clunk(m fidMessage) error {
	f, err := c.session.remove(m.fid)
	if err != nil {
		return err
	}
	defer f.release()
	if f.attr != nil {
		return f.attr.set()
	}
	return nil
}

// remove lets go of a fid, and does not remove its file, for the server knows no
// names of files. Linux sends it to servers without Tunlinkat.
func (c *call) remove(m fidMessage) error {
	f, err := c.session.remove(m.fid)
	if err != nil {
		return err
	}
	f.release()
	return unix.EOPNOTSUPP
}

// qid tells a file from all others, and its contents now from those later.
type qid struct {
	kind    uint8
	version uint32
	path    uint64
}

func (c *call) qid(q qid) {
	c.byte(q.kind)
	c.word(q.version)
	c.long(q.path)
}

func qidOf(n *share.Node, st *unix.Stat_t) qid {
	return qid{
		kind:    qidKind(st.Mode >> 12),
		version: uint32(st.Mtim.Sec) ^ uint32(st.Mtim.Nsec),
		path:    n.ID(st.Ino),
	}
}

// qidKind is the kind of a QID for a kind of file: S_IFMT of a mode, shifted, or
// DT_DIR and so on, which are the same.
func qidKind[T uint8 | uint32](kind T) uint8 {
	switch kind {
	case unix.DT_DIR:
		return 0x80
	case unix.DT_LNK:
		return 0x02
	}
	return 0
}
