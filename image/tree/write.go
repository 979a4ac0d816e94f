package tree

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WriteState writes what only root could have set, for the option -i of
// fakeroot(1): under it, the files have the owners, rights and device numbers that
// they are to have.
func (t *Tree) WriteState(w io.Writer) error {
	b := bufio.NewWriter(w)
	err := t.walk(func(f *file) error {
		_, err := fmt.Fprintf(b, "dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=%d,rdev=%d\n", f.Dev, f.Ino, f.Mode, f.Uid, f.Gid, f.Nlink, f.Rdev)
		return err
	})
	if err != nil {
		return err
	}
	return b.Flush()
}

// WriteAttributes writes an archive of those files whose extended attributes only
// root could have set; written over them by tar under fakeroot, they have them. It
// says whether there are any.
func (t *Tree) WriteAttributes(w io.Writer) (some bool, err error) {
	err = t.writeTar(w, func(f *file) bool {
		some = some || len(f.xattrs) > 0
		return len(f.xattrs) > 0
	})
	return some, err
}

// WriteTar writes the tree as a tar archive.
func (t *Tree) WriteTar(w io.Writer) error {
	return t.writeTar(w, func(*file) bool { return true })
}

func (t *Tree) writeTar(w io.Writer, wanted func(*file) bool) error {
	archive, links := tar.NewWriter(w), map[inode]string{}
	err := t.walk(func(f *file) error {
		if !wanted(f) {
			return nil
		}
		h, err := f.header()
		if err != nil || h == nil {
			return err
		}
		if f.Nlink > 1 && f.kind() != unix.S_IFDIR {
			if first, ok := links[inodeOf(&f.Stat_t)]; ok {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			} else {
				links[inodeOf(&f.Stat_t)] = h.Name
			}
		}
		if err := archive.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if h.Typeflag == tar.TypeReg {
			return f.copyTo(archive)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

// header describes a file in an archive; nil for a socket, which is none.
func (f *file) header() (*tar.Header, error) {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: "./" + f.path, Mode: int64(f.Mode & 0o7777), Uid: int(f.Uid), Gid: int(f.Gid),
		ModTime: time.Unix(f.Mtim.Unix()), PAXRecords: map[string]string{},
	}
	for name, value := range f.xattrs {
		h.PAXRecords[paxXattr+name] = value
	}
	switch f.kind() {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, f.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case unix.S_IFLNK:
		target, err := f.target()
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if f.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(f.Rdev)), int64(unix.Minor(f.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	return h, nil
}

// Sum says how large the regular files of the tree are, how much of a disk they
// take, and what their SHA-256 is: that of the contents, each behind its name and a
// zero byte.
func (t *Tree) Sum() (size, onDisk int64, sum string, err error) {
	hash := sha256.New()
	err = t.walk(func(f *file) error {
		if f.kind() != unix.S_IFREG {
			return nil
		}
		size += f.Size
		onDisk += f.Blocks * 512
		_, _ = io.WriteString(hash, f.path+"\x00")
		return f.copyTo(hash)
	})
	return size, onDisk, hex.EncodeToString(hash.Sum(nil)), err
}

// Files opens the regular files of the tree one after the other, and gives them away.
func (t *Tree) Files(to func(*os.File) error) error {
	return t.walk(func(f *file) error {
		if f.kind() != unix.S_IFREG {
			return nil
		}
		file, err := f.open()
		if err != nil {
			return err
		}
		return to(file)
	})
}

// Fingerprint tells the tree from itself after a change: it is made of all names, and
// of what the host says of the files, their times of change included, which cannot be
// set. It reads no contents.
func (t *Tree) Fingerprint() (string, error) {
	hash := sha256.New()
	err := t.walk(func(f *file) error {
		_, err := fmt.Fprintf(hash, "%q %d %d %o %d %d %d %d %d %d\n",
			f.path, f.Dev, f.Ino, f.Mode, f.Uid, f.Gid, f.Size, f.Rdev, f.Mtim.Nano(), f.Ctim.Nano())
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)), err
}
