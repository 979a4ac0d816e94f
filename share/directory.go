package share

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Entry is an entry of a folder.
type Entry struct {
	ID     uint64 // as Node.ID has it
	Offset int64  // where the next entry is
	Type   byte   // DT_REG and so on
	Name   []byte // until the next call
}

// ReadDirectory calls yield for entries from offset on, until it returns false or
// a buffer of them has been read; a folder has none left when it is not called at
// all. The buffer is the caller's, of some kilobytes.
func (f *File) ReadDirectory(offset int64, buffer []byte, yield func(Entry) bool) error {
	n, err := f.readEntries(offset, buffer)
	if err != nil {
		return err
	}
	for rest := buffer[:n]; len(rest) > 0; {
		// struct linux_dirent64: getdents64(2).
		const fixed = 19
		if len(rest) < fixed {
			return unix.EIO
		}
		size := int(binary.NativeEndian.Uint16(rest[16:]))
		if size < fixed || size > len(rest) {
			return unix.EIO
		}
		name := rest[fixed:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if !yield(Entry{
			ID:     f.ID(binary.NativeEndian.Uint64(rest)),
			Offset: int64(binary.NativeEndian.Uint64(rest[8:])),
			Type:   rest[18],
			Name:   name,
		}) {
			return nil
		}
		rest = rest[size:]
	}
	return nil
}

func (f *File) readEntries(offset int64, buffer []byte) (int, error) {
	f.directory.Lock()
	defer f.directory.Unlock()
	if _, err := unix.Seek(f.fd, offset, unix.SEEK_SET); err != nil {
		return 0, err
	}
	return unix.Getdents(f.fd, buffer)
}
