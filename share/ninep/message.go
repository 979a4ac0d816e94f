package ninep

import "golang.org/x/sys/unix"

// Kinds of messages. The answer to one is of the kind behind it, or Rlerror.
// Linux: include/net/9p/9p.h; the protocol is described in diod's protocol.md.
const (
	rLerror      = 7
	tStatfs      = 8
	tLopen       = 12
	tLcreate     = 14
	tSymlink     = 16
	tMknod       = 18
	tReadlink    = 22
	tGetattr     = 24
	tSetattr     = 26
	tXattrwalk   = 30
	tXattrcreate = 32
	tReaddir     = 40
	tFsync       = 50
	tLock        = 52
	tGetlock     = 54
	tLink        = 70
	tMkdir       = 72
	tRenameat    = 74
	tUnlinkat    = 76
	tVersion     = 100
	tAttach      = 104
	tFlush       = 108
	tWalk        = 110
	tRead        = 116
	tWrite       = 118
	tClunk       = 120
	tRemove      = 122
)

const (
	version = "9P2000.L"
	noTag   = 0xffff // of Tversion
	noFID   = 1<<32 - 1

	headerSize = 4 + 1 + 2 // size, kind, tag
	// ioHeaderSize is what is before the data of Rread and Rreaddir.
	ioHeaderSize = headerSize + 4
	// writeHeaderSize is what is before the data of Twrite.
	writeHeaderSize = headerSize + 4 + 8 + 4

	// maxMessage is the size of a message, with the data of a file in it. The
	// data are not copied.
	maxMessage = 1 << 20
	minMessage = 4096
	// maxBody is the size of a message without such data: 16 names of 255
	// bytes, or a name and the target of a symbolic link.
	maxBody = 8 << 10
	// maxWalk is how many names a Twalk has.
	maxWalk = 16
)

// header is what each message begins with.
type header struct {
	size uint32
	kind uint8
	tag  uint16
}

// The messages, as they are on the wire: what their fields mean is told where they
// are answered.
type (
	versionMessage struct {
		msize   uint32
		version string
	}
	flushMessage  struct{ oldTag uint16 }
	attachMessage struct {
		fid, authFID uint32
		user, tree   string
		uid          uint32
	}
	walkMessage struct {
		fid, newFID uint32
		names       []string
	}
	fidMessage    struct{ fid uint32 } // Tstatfs, Treadlink, Tclunk, Tremove
	lopenMessage  struct{ fid, flags uint32 }
	createMessage struct {
		fid              uint32
		name             string
		flags, mode, gid uint32
	}
	mkdirMessage struct {
		fid       uint32
		name      string
		mode, gid uint32
	}
	mknodMessage struct {
		fid                     uint32
		name                    string
		mode, major, minor, gid uint32
	}
	symlinkMessage struct {
		fid          uint32
		name, target string
		gid          uint32
	}
	linkMessage struct {
		directory, fid uint32
		name           string
	}
	renameMessage struct {
		fid     uint32
		name    string
		newFID  uint32
		newName string
	}
	unlinkMessage struct {
		fid   uint32
		name  string
		flags uint32
	}
	getattrMessage struct {
		fid  uint32
		mask uint64
	}
	setattrMessage struct {
		fid, valid, mode, uid, gid uint32
		size                       uint64
		atime, mtime               unix.Timespec
	}
	readMessage struct { // Tread, Treaddir
		fid    uint32
		offset uint64
		count  uint32
	}
	writeMessage struct { // the data are behind it
		fid    uint32
		offset uint64
		count  uint32
	}
	fsyncMessage struct{ fid, dataOnly uint32 }
	lockMessage  struct {
		fid           uint32
		kind          uint8
		flags         uint32
		start, length uint64
		process       uint32
		client        string
	}
	getlockMessage struct {
		fid           uint32
		kind          uint8
		start, length uint64
		process       uint32
		client        string
	}
	xattrwalkMessage struct {
		fid, newFID uint32
		name        string
	}
	xattrcreateMessage struct {
		fid   uint32
		name  string
		size  uint64
		flags uint32
	}
)
