package ninep

import "golang.org/x/sys/unix"

// call is a message under way, from when it is received until it is answered.
type call struct {
	server  *Server
	session *session // when it was received
	in      [][]byte // what is left of the client's message
	room    [][]byte // for the answer
	done    func(int)

	header
	body    decoder
	reply   []byte  // the answer, from its header on
	data    int     // bytes behind the reply, in room already
	flushes []*call // wait for this one

	copied  [maxBody]byte
	entries []byte   // of a folder
	window  [][]byte // of in or room
}

// reset makes the call ready for another message, with the memory that it has.
func (c *call) reset() {
	c.server, c.session, c.in, c.room, c.done = nil, nil, nil, nil, nil
	c.reply, c.data = c.reply[:0], 0
	clear(c.flushes)
	c.flushes = c.flushes[:0]
	clear(c.window)
	c.window = c.window[:0]
}

// receive copies the message, once: the client may change it at any moment. It
// reports whether there is one, at least its header. A message that is not as long
// as it says has a body that cannot be decoded.
func (c *call) receive() bool {
	head := decoder{rest: c.copied[:c.copyIn(0, writeHeaderSize)]}
	c.header = head.header()
	if head.short {
		return false
	}
	c.body = decoder{short: true}
	if c.size < headerSize || c.size > maxMessage || uint64(c.size) > length(c.in) {
		return true
	}
	end := int(c.size)
	if c.kind == tWrite { // the data stay where they are
		end = min(end, writeHeaderSize)
	}
	if end > len(c.copied) {
		return true
	}
	c.copyIn(writeHeaderSize, end)
	c.body = decoder{rest: c.copied[headerSize:end]}
	return true
}

// copyIn copies the message from an offset on to an end, and returns where it has
// come to.
func (c *call) copyIn(from, end int) int {
	at := from
	for _, piece := range c.part(c.in, uint64(from), uint64(max(end-from, 0))) {
		at += copy(c.copied[at:end], piece)
	}
	return at
}

// blocks reports whether the message had better not hold up those behind it: it may
// have to wait for what is in no memory of the host's. To hand a message over takes
// several times as long as to answer one from there.
func (c *call) blocks(more bool) bool {
	switch c.kind {
	case tFsync:
		return true
	case tRead, tWrite, tReaddir:
		return more
	}
	return false
}

// answer makes the answer, puts it into the room for it, and returns its size.
func (c *call) answer() int {
	c.reply = append(c.reply[:0], 0, 0, 0, 0, c.kind+1, 0, 0)
	err := c.dispatch()
	if err == nil {
		if n := c.send(); n > 0 {
			return n
		}
		err = unix.EMSGSIZE // there may be room for this
	}
	return c.fail(err)
}

// fail answers with an error.
func (c *call) fail(err error) int {
	errno, ok := err.(unix.Errno)
	if !ok {
		errno = unix.EIO
	}
	c.reply = append(c.reply[:0], 0, 0, 0, 0, rLerror, 0, 0)
	c.word(uint32(errno))
	c.data = 0
	return c.send()
}

// send puts the answer into the room, and returns its size: 0 if it does not fit.
func (c *call) send() int {
	size := len(c.reply) + c.data
	le.PutUint32(c.reply, uint32(size))
	le.PutUint16(c.reply[5:], c.tag)
	if uint64(size) > length(c.room) {
		return 0
	}
	n := 0
	for _, piece := range c.room {
		n += copy(piece, c.reply[n:])
	}
	return size
}

// What an answer is made of.
func (c *call) byte(v uint8)  { c.reply = append(c.reply, v) }
func (c *call) half(v uint16) { c.reply = le.AppendUint16(c.reply, v) }
func (c *call) word(v uint32) { c.reply = le.AppendUint32(c.reply, v) }
func (c *call) long(v uint64) { c.reply = le.AppendUint64(c.reply, v) }
func (c *call) text(v string) {
	c.half(uint16(len(v)))
	c.reply = append(c.reply, v...)
}

// length is how many bytes there are in pieces of memory.
func length(pieces [][]byte) uint64 {
	var n uint64
	for _, piece := range pieces {
		n += uint64(len(piece))
	}
	return n
}

// part is n bytes of pieces, from an offset on, or as many as there are. It is valid
// until the next call.
func (c *call) part(pieces [][]byte, offset, n uint64) [][]byte {
	c.window = c.window[:0]
	for _, piece := range pieces {
		size := uint64(len(piece))
		if offset >= size {
			offset -= size
			continue
		}
		piece = piece[offset:]
		offset = 0
		piece = piece[:min(uint64(len(piece)), n)]
		if n -= uint64(len(piece)); len(piece) > 0 {
			c.window = append(c.window, piece)
		}
	}
	return c.window
}

// serve decodes a message and answers it.
func serve[M any](c *call, decode func(*decoder) M, answer func(*call, M) error) error {
	m := decode(&c.body)
	if !c.body.ok() {
		return unix.EINVAL
	}
	return answer(c, m)
}

// dispatch answers a message of any kind. What is not here is not used by Linux, or
// only if its successor is missing.
func (c *call) dispatch() error {
	switch c.kind {
	case tVersion:
		return serve(c, (*decoder).version, (*call).version)
	case tAttach:
		return serve(c, (*decoder).attach, (*call).attach)
	case tFlush:
		return serve(c, (*decoder).flush, (*call).flush)
	case tWalk:
		return serve(c, (*decoder).walk, (*call).walk)
	case tClunk:
		return serve(c, (*decoder).fid, (*call).clunk)
	case tRemove:
		return serve(c, (*decoder).fid, (*call).remove)
	case tGetattr:
		return serve(c, (*decoder).getattr, (*call).getattr)
	case tSetattr:
		return serve(c, (*decoder).setattr, (*call).setattr)
	case tStatfs:
		return serve(c, (*decoder).fid, (*call).statfs)
	case tReadlink:
		return serve(c, (*decoder).fid, (*call).readlink)
	case tLopen:
		return serve(c, (*decoder).lopen, (*call).lopen)
	case tLcreate:
		return serve(c, (*decoder).create, (*call).lcreate)
	case tRead:
		return serve(c, (*decoder).read, (*call).read)
	case tWrite:
		return serve(c, (*decoder).write, (*call).write)
	case tReaddir:
		return serve(c, (*decoder).read, (*call).readdir)
	case tFsync:
		return serve(c, (*decoder).fsync, (*call).fsync)
	case tMkdir:
		return serve(c, (*decoder).mkdir, (*call).mkdir)
	case tMknod:
		return serve(c, (*decoder).mknod, (*call).mknod)
	case tSymlink:
		return serve(c, (*decoder).symlink, (*call).symlink)
	case tLink:
		return serve(c, (*decoder).link, (*call).link)
	case tRenameat:
		return serve(c, (*decoder).rename, (*call).rename)
	case tUnlinkat:
		return serve(c, (*decoder).unlink, (*call).unlink)
	case tLock:
		return serve(c, (*decoder).lock, (*call).lock)
	case tGetlock:
		return serve(c, (*decoder).getlock, (*call).getlock)
	case tXattrwalk:
		return serve(c, (*decoder).xattrwalk, (*call).xattrwalk)
	case tXattrcreate:
		return serve(c, (*decoder).xattrcreate, (*call).xattrcreate)
	}
	return unix.EOPNOTSUPP
}
