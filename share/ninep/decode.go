package ninep

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// decoder takes a message apart. Behind the end, everything is zero; whoever asks
// for ok learns of it.
type decoder struct {
	rest  []byte
	short bool
}

// ok reports whether the message was as long as its fields, neither less nor more.
func (d *decoder) ok() bool { return !d.short && len(d.rest) == 0 }

var zeroes [8]byte

func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.short, d.rest = true, nil
		return zeroes[:min(n, len(zeroes))]
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() uint8  { return d.take(1)[0] }
func (d *decoder) half() uint16 { return le.Uint16(d.take(2)) }
func (d *decoder) word() uint32 { return le.Uint32(d.take(4)) }
func (d *decoder) long() uint64 { return le.Uint64(d.take(8)) }

func (d *decoder) text() string {
	n := int(d.half())
	b := d.take(n)
	if d.short {
		return ""
	}
	return string(b)
}

func (d *decoder) time() unix.Timespec {
	return unix.Timespec{Sec: int64(d.long()), Nsec: int64(d.long())}
}

func (d *decoder) header() header { return header{d.word(), d.byte(), d.half()} }

func (d *decoder) version() versionMessage { return versionMessage{d.word(), d.text()} }
func (d *decoder) flush() flushMessage     { return flushMessage{d.half()} }
func (d *decoder) attach() attachMessage {
	return attachMessage{d.word(), d.word(), d.text(), d.text(), d.word()}
}

func (d *decoder) walk() walkMessage {
	m := walkMessage{fid: d.word(), newFID: d.word()}
	n := d.half()
	if n > maxWalk {
		d.short = true
		return m
	}
	for range n {
		m.names = append(m.names, d.text())
	}
	return m
}

func (d *decoder) fid() fidMessage     { return fidMessage{d.word()} }
func (d *decoder) lopen() lopenMessage { return lopenMessage{d.word(), d.word()} }
func (d *decoder) create() createMessage {
	return createMessage{d.word(), d.text(), d.word(), d.word(), d.word()}
}
func (d *decoder) mkdir() mkdirMessage {
	return mkdirMessage{d.word(), d.text(), d.word(), d.word()}
}
func (d *decoder) mknod() mknodMessage {
	return mknodMessage{d.word(), d.text(), d.word(), d.word(), d.word(), d.word()}
}
func (d *decoder) symlink() symlinkMessage {
	return symlinkMessage{d.word(), d.text(), d.text(), d.word()}
}
func (d *decoder) link() linkMessage { return linkMessage{d.word(), d.word(), d.text()} }
func (d *decoder) rename() renameMessage {
	return renameMessage{d.word(), d.text(), d.word(), d.text()}
}
func (d *decoder) unlink() unlinkMessage   { return unlinkMessage{d.word(), d.text(), d.word()} }
func (d *decoder) getattr() getattrMessage { return getattrMessage{d.word(), d.long()} }
func (d *decoder) setattr() setattrMessage {
	return setattrMessage{d.word(), d.word(), d.word(), d.word(), d.word(), d.long(), d.time(), d.time()}
}
func (d *decoder) read() readMessage   { return readMessage{d.word(), d.long(), d.word()} }
func (d *decoder) write() writeMessage { return writeMessage{d.word(), d.long(), d.word()} }
func (d *decoder) fsync() fsyncMessage { return fsyncMessage{d.word(), d.word()} }
func (d *decoder) lock() lockMessage {
	return lockMessage{d.word(), d.byte(), d.word(), d.long(), d.long(), d.word(), d.text()}
}
func (d *decoder) getlock() getlockMessage {
	return getlockMessage{d.word(), d.byte(), d.long(), d.long(), d.word(), d.text()}
}
func (d *decoder) xattrwalk() xattrwalkMessage {
	return xattrwalkMessage{d.word(), d.word(), d.text()}
}
func (d *decoder) xattrcreate() xattrcreateMessage {
	return xattrcreateMessage{d.word(), d.text(), d.long(), d.word()}
}
