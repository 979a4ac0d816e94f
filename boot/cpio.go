package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The "newc" format of cpio: for each file a header of hexadecimal numbers,
// the name, and the contents, with padding to 4 bytes after name and contents.
// The last file is called TRAILER!!!.
// Documentation/driver-api/early-userspace/buffer-format.rst.
const (
	cpioMagic      = "070701"
	cpioMagicCRC   = "070702" // the same with a checksum, which Linux ignores
	cpioMagicOld   = "070707" // another format, which Linux does not read
	cpioHeaderSize = 6 + 13*8
	cpioTrailer    = "TRAILER!!!"
)

// Bounds against files made to exhaust memory.
const (
	maxFiles = 1 << 20
	maxNames = 64 << 20 // of all names together, in bytes
	maxPath  = 4096     // PATH_MAX, with the final NUL
)

// File is a file in a cpio archive.
type File struct {
	Name  string `json:"name"`
	Mode  uint32 `json:"mode"` // as in struct stat
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
	Size  uint32 `json:"size"`            // in bytes
	Major uint32 `json:"major,omitempty"` // of a device
	Minor uint32 `json:"minor,omitempty"`
	Link  string `json:"link,omitempty"` // where a symbolic link points to
}

// File types, the upper four bits of a mode. POSIX <sys/stat.h>.
const (
	typeMask    = 0o170000
	typeChar    = 0o020000
	typeBlock   = 0o060000
	typeSymlink = 0o120000
)

// cpioReader reads the files of an archive one after another.
//
// u-root's package cpio has a reader too, but it wants an io.ReaderAt, which
// compressed data does not give, and does not say where an archive ends, which
// an initrd of several needs.
type cpioReader struct {
	r     io.Reader
	n     int64 // bytes read
	names int64 // bytes of names read
}

// archive reads up to and including the archive's trailer. With an error it
// returns the files before it.
func (c *cpioReader) archive() ([]File, error) {
	var files []File
	for {
		f, err := c.file()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("truncated")
			}
			return files, err
		}
		if f.Name == cpioTrailer {
			return files, nil
		}
		if len(files) == maxFiles || c.names > maxNames {
			return files, fmt.Errorf("more than %d files or %d bytes of names", maxFiles, maxNames)
		}
		files = append(files, f)
	}
}

// file reads a file's header, name and, of a symbolic link, contents.
func (c *cpioReader) file() (File, error) {
	header, err := c.take(cpioHeaderSize)
	if err != nil {
		return File{}, err
	}
	switch magic := string(header[:6]); magic {
	case cpioMagic, cpioMagicCRC:
	case cpioMagicOld:
		return File{}, errors.New("an old format of cpio; Linux reads what 'cpio -H newc' makes")
	default:
		return File{}, fmt.Errorf("%q where a cpio header should be", magic)
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
	if nameSize == 0 || nameSize > maxPath {
		return File{}, fmt.Errorf("cpio header: a name of %d bytes", nameSize)
	}
	name, err := c.take(int(nameSize))
	if err != nil {
		return File{}, err
	}
	c.names += int64(nameSize)
	name, _, _ = bytes.Cut(name, []byte{0})
	f := File{
		Name: string(name),
		Mode: field[1], UID: field[2], GID: field[3], Size: field[6], Major: field[9], Minor: field[10],
	}
	// The very last padding may be missing.
	last := f.Name == cpioTrailer
	if err := c.pad(); err != nil && !last {
		return File{}, err
	}
	if f.Mode&typeMask == typeSymlink && f.Size < maxPath {
		link, err := c.take(int(f.Size))
		if err != nil {
			return File{}, err
		}
		f.Link = string(link)
		c.names += int64(len(link))
	} else if err := c.skip(int64(f.Size)); err != nil {
		return File{}, err
	}
	if err := c.pad(); err != nil && !last {
		return File{}, err
	}
	return f, nil
}

func (c *cpioReader) take(n int) ([]byte, error) {
	buffer := make([]byte, n)
	got, err := io.ReadFull(c.r, buffer)
	c.n += int64(got)
	return buffer, err
}

func (c *cpioReader) skip(n int64) error {
	got, err := io.CopyN(io.Discard, c.r, n)
	c.n += got
	return err
}

// pad skips to the next multiple of 4 bytes.
func (c *cpioReader) pad() error { return c.skip(-c.n & 3) }
