package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
)

// Archive is one of the cpio archives that an initrd is made of.
type Archive struct {
	Compression Compression `json:"compression"`
	Offset      int64       `json:"offset"` // in the file
	Files       []File      `json:"files"`
}

// File is a file in an initrd.
type File struct {
	Name  string `json:"name"`
	Mode  uint32 `json:"mode"` // as in struct stat
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
	Size  uint32 `json:"size"`
	Major uint32 `json:"major,omitempty"` // of a device
	Minor uint32 `json:"minor,omitempty"`
}

// FileMode is the file's mode in Go's terms.
func (f File) FileMode() fs.FileMode {
	mode := fs.FileMode(f.Mode & 0o777)
	switch f.Mode & 0o170000 {
	case 0o040000:
		mode |= fs.ModeDir
	case 0o120000:
		mode |= fs.ModeSymlink
	case 0o020000:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		mode |= fs.ModeDevice
	case 0o010000:
		mode |= fs.ModeNamedPipe
	case 0o140000:
		mode |= fs.ModeSocket
	}
	for bit, m := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if f.Mode&bit != 0 {
			mode |= m
		}
	}
	return mode
}

// Bounds on an initrd, against files made to exhaust memory.
const (
	maxFiles = 1 << 20
	maxName  = 4096 // PATH_MAX
)

// ListInitrd lists the files of an initrd: any number of plain cpio archives,
// such as one with a processor's microcode, and then one that may be
// compressed. Documentation/driver-api/early-userspace/buffer-format.rst.
//
// It is a reader of its own, because an initrd is more than an archive: its
// parts follow each other with any amount of zeros between.
func ListInitrd(name string, r io.ReaderAt, size int64) ([]Archive, error) {
	var archives []Archive
	if size == 0 {
		return nil, fmt.Errorf("initrd %s: the file is empty", name)
	}
	for off := int64(0); ; {
		off = skipZeros(r, off, size)
		if off >= size {
			break
		}
		var head [16]byte
		if n, err := r.ReadAt(head[:], off); n == 0 {
			return archives, fmt.Errorf("initrd %s: %w", name, err)
		}
		a := Archive{Compression: detectCompression(head[:]), Offset: off}
		body := io.NewSectionReader(r, off, size-off)
		if a.Compression == Uncompressed {
			if len(archives) == 0 && !bytes.HasPrefix(head[:], []byte("07070")) {
				return nil, fmt.Errorf("initrd %s: neither a cpio archive nor compressed in a way that Linux knows", name)
			}
			n, err := a.read(body)
			archives = append(archives, a)
			if err != nil {
				return archives, fmt.Errorf("initrd %s: cpio archive at byte %d: %w", name, off, err)
			}
			off += n
			continue
		}
		// A compressed part is the last: where it ends shows only when it is
		// unpacked, and what its reader has taken beyond that is not known.
		unpacked, err := decompressor(a.Compression, body)
		if err == nil {
			if c, ok := unpacked.(interface{ Close() }); ok {
				defer c.Close()
			}
			_, err = a.read(unpacked)
		}
		archives = append(archives, a)
		if err != nil {
			return archives, fmt.Errorf("initrd %s: %v archive at byte %d: %w", name, a.Compression, off, err)
		}
		break
	}
	if len(archives) == 0 {
		return nil, fmt.Errorf("initrd %s: nothing but zeros", name)
	}
	return archives, nil
}

// skipZeros returns the offset of the first byte from off on that is not zero.
func skipZeros(r io.ReaderAt, off, size int64) int64 {
	buffer := make([]byte, 4096)
	for off < size {
		n, err := r.ReadAt(buffer[:min(int64(len(buffer)), size-off)], off)
		for i, b := range buffer[:n] {
			if b != 0 {
				return off + int64(i)
			}
		}
		off += int64(n)
		if err != nil && n == 0 {
			break
		}
	}
	return size
}

// The "newc" format: a header of hexadecimal numbers, the name, the contents,
// each padded to 4 bytes. The last file is called TRAILER!!!.
const (
	cpioHeaderSize = 6 + 13*8
	cpioTrailer    = "TRAILER!!!"
)

// read reads an archive and returns the number of bytes it has.
func (a *Archive) read(r io.Reader) (int64, error) {
	c := &countingReader{r: r}
	for {
		f, err := c.file()
		if err != nil {
			return c.n, err
		}
		if f.Name == cpioTrailer {
			return c.n, nil
		}
		if len(a.Files) == maxFiles {
			return c.n, fmt.Errorf("more than %d files", maxFiles)
		}
		a.Files = append(a.Files, f)
	}
}

// countingReader counts what was read, for padding.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) take(n int) ([]byte, error) {
	buffer := make([]byte, n)
	got, err := io.ReadFull(c.r, buffer)
	c.n += int64(got)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("truncated")
	}
	return buffer, err
}

func (c *countingReader) skip(n int64) error {
	got, err := io.CopyN(io.Discard, c.r, n)
	c.n += got
	if err == io.EOF {
		err = errors.New("truncated")
	}
	return err
}

// file reads a file's header and name and skips its contents.
func (c *countingReader) file() (File, error) {
	header, err := c.take(cpioHeaderSize)
	if err != nil {
		return File{}, err
	}
	if magic := string(header[:6]); magic != "070701" && magic != "070702" {
		return File{}, fmt.Errorf("no cpio header where one should be: %q", magic)
	}
	var field [13]uint32
	for i := range field {
		v, err := strconv.ParseUint(string(header[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return File{}, fmt.Errorf("cpio header: %w", err)
		}
		field[i] = uint32(v)
	}
	nameSize := field[11]
	if nameSize == 0 || nameSize > maxName {
		return File{}, fmt.Errorf("cpio header: a name of %d bytes", nameSize)
	}
	name, err := c.take(int(nameSize))
	if err != nil {
		return File{}, err
	}
	f := File{
		Name: string(bytes.TrimRight(name, "\x00")),
		Mode: field[1], UID: field[2], GID: field[3], Size: field[6], Major: field[9], Minor: field[10],
	}
	if err := c.skip(-c.n & 3); err != nil {
		return File{}, err
	}
	if err := c.skip(int64(f.Size)); err != nil {
		return File{}, err
	}
	// The very last padding may be missing.
	if err := c.skip(-c.n & 3); err != nil && f.Name != cpioTrailer {
		return File{}, err
	}
	return f, nil
}
