package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Archive is how to take an archive.
type Archive struct {
	// Layer: it is a layer of a container image, and has names that say what of
	// the layers below is gone. OCI Image Layer Specification 1.0, Whiteouts.
	Layer bool
	// Root: all of it is root's, whatever it says.
	Root bool
}

// Unpack adds the files of a tar archive to the tree, or replaces those that are
// there. It reads r to its end. After an error the tree is of no use.
func (t *Tree) Unpack(r io.Reader, a Archive) error {
	archive, fresh := tar.NewReader(r), newNames()
	for {
		h, err := archive.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return fmt.Errorf("it does not look like a tar archive, or a damaged one: %w", err)
		}
		if a.Root {
			h.Uid, h.Gid = 0, 0
		}
		if err := t.add(h, archive, a.Layer, fresh); err != nil {
			return fmt.Errorf("%.200q in the archive: %w", h.Name, err)
		}
	}
}

// names is a set of names. It keeps a hash of each alone: names may be long.
type names struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

func newNames() names { return names{maphash.MakeSeed(), map[uint64]struct{}{}} }

func (n names) add(name string) { n.hashes[maphash.String(n.seed, name)] = struct{}{} }

func (n names) has(name string) bool {
	_, ok := n.hashes[maphash.String(n.seed, name)]
	return ok
}

// The names with which a layer removes.
const (
	whiteout = ".wh."         // and the name of what is gone
	opaque   = ".wh..wh..opq" // all that the layers below have in this folder
)

// add adds what an entry of an archive describes. Fresh are the names that the
// archive has brought, for a layer.
func (t *Tree) add(h *tar.Header, contents io.Reader, layer bool, fresh names) error {
	if err := t.count(h.Size); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		return t.describe(t.root, ".", t.top, unix.S_IFDIR|0o755, h)
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	in, err := t.folder(dir, true)
	if err != nil {
		return err
	}
	if layer {
		if gone, ok := strings.CutPrefix(base, whiteout); ok {
			return t.whiteout(in, dir, gone, base == opaque, fresh)
		}
		for n := name; n != "." && !fresh.has(n); n = path.Dir(n) {
			fresh.add(n)
		}
	}
	return t.create(in, base, h, contents)
}

// whiteout removes what layers below have, and this one has not.
func (t *Tree) whiteout(in int, dir, gone string, all bool, fresh names) error {
	switch {
	case all:
		return t.clearFolder(in, dir, fresh)
	case strings.HasPrefix(gone, whiteout): // AUFS's own
		return nil
	case gone == "" || gone == "." || gone == "..":
		return errors.New("it names nothing that could be gone")
	case fresh.has(path.Join(dir, gone)): // what is new of it stays
		f, err := openFolder(in, gone)
		if err != nil {
			return nil
		}
		defer f.Close()
		return t.clearFolder(int(f.Fd()), path.Join(dir, gone), fresh)
	}
	t.forget()
	return t.removeIn(dir, gone)
}

// removeIn removes a file or folder of a folder.
func (t *Tree) removeIn(dir, name string) error {
	in, err := t.folder(dir, false)
	if err != nil {
		return err
	}
	defer t.forget()
	return t.removeAt(in, name)
}

// clearFolder removes what is in a folder, apart from what is fresh.
func (t *Tree) clearFolder(in int, dir string, fresh names) error {
	f, err := openFolder(in, ".")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	if t.cleared += len(names); t.cleared > maxCleared {
		return fmt.Errorf("what is removed of the layers below takes looking at more than %d files", maxCleared)
	}
	defer t.forget()
	for _, n := range names {
		at := path.Join(dir, n)
		var err error
		if !fresh.has(at) {
			err = t.removeAt(int(f.Fd()), n)
		} else if sub, openErr := openFolder(int(f.Fd()), n); openErr == nil {
			err = t.clearFolder(int(sub.Fd()), at, fresh)
			sub.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// create makes a file of any kind.
func (t *Tree) create(in int, name string, h *tar.Header, contents io.Reader) error {
	mode := uint32(h.Mode & 0o7777)
	if h.Typeflag == tar.TypeLink {
		return t.link(in, name, h.Linkname)
	}
	var st unix.Stat_t
	err := unix.Fstatat(in, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	isFolder := err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
	if err == nil && !(isFolder && h.Typeflag == tar.TypeDir) {
		// What was looked up may have led through it. The folder itself has not.
		if in, err = unix.Dup(in); err != nil {
			return err
		}
		defer unix.Close(in)
		t.forget()
		err = t.removeAt(in, name)
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		mode |= unix.S_IFREG
		err = t.createFile(in, name, contents)
	case tar.TypeDir:
		mode |= unix.S_IFDIR
		if !isFolder {
			err = t.makeFolder(in, name, mode)
		}
	case tar.TypeSymlink:
		mode |= unix.S_IFLNK
		err = unix.Symlinkat(h.Linkname, in, name)
	case tar.TypeChar:
		mode |= unix.S_IFCHR
		err = t.createNode(in, name, mode, h)
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
		err = t.createNode(in, name, mode, h)
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
		err = t.createNode(in, name, mode, h)
	default:
		err = fmt.Errorf("an entry of type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	if err := unix.Fstatat(in, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return t.describe(in, name, inodeOf(&st), mode, h)
}

// link makes another name for a file of the tree.
func (t *Tree) link(in int, name, target string) error {
	target, err := clean(target)
	if err != nil {
		return err
	}
	dir, base := path.Split(target)
	from, err := t.at(strings.TrimSuffix(dir, "/"), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("the file that it is a link to: %w", err)
	}
	defer unix.Close(from)
	var file, there unix.Stat_t
	if err := unix.Fstatat(from, base, &file, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("the file that it is a link to: %w", err)
	}
	if file.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errors.New("a hard link to a folder")
	}
	if unix.Fstatat(in, name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil {
		if inodeOf(&there) == inodeOf(&file) {
			return nil
		}
		if in, err = unix.Dup(in); err != nil {
			return err
		}
		defer unix.Close(in)
		t.forget()
		if err := t.removeAt(in, name); err != nil {
			return err
		}
	}
	return unix.Linkat(from, base, in, name, 0)
}

// createNode makes a device node or a FIFO. Where it takes root and there is none,
// an empty file stands for it.
func (t *Tree) createNode(in int, name string, mode uint32, h *tar.Header) error {
	if !t.native {
		return t.createFile(in, name, bytes.NewReader(nil))
	}
	return unix.Mknodat(in, name, mode&unix.S_IFMT|0o600, int(device(h)))
}

func device(h *tar.Header) uint64 {
	return unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
}

// createFile makes a regular file.
func (t *Tree) createFile(in int, name string, contents io.Reader) (err error) {
	fd, err := unix.Openat(in, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, f.Close()) }()
	return copySparse(f, contents)
}

// zeros is a piece of a file that need not be written.
var zeros [32 << 10]byte

// copySparse copies to an empty file, and leaves holes for pieces of zeros.
func copySparse(to *os.File, from io.Reader) error {
	var buffer [len(zeros)]byte
	for at := int64(0); ; {
		n, err := io.ReadFull(from, buffer[:])
		if piece := buffer[:n]; !bytes.Equal(piece, zeros[:n]) {
			if _, err := to.WriteAt(piece, at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return to.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

// paxXattr is the prefix of extended attributes in an archive.
const paxXattr = "SCHILY.xattr."

// describe gives a file the owner, rights, time and attributes that an archive says.
func (t *Tree) describe(in int, name string, id inode, mode uint32, h *tar.Header) error {
	kind := mode & unix.S_IFMT
	m := meta{mode: mode, uid: uint32(h.Uid), gid: uint32(h.Gid), mtime: unix.NsecToTimespec(h.ModTime.UnixNano())}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > 1<<32-2 || h.Gid > 1<<32-2 {
		return fmt.Errorf("its owner is %d:%d", h.Uid, h.Gid)
	}
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		m.rdev = device(h)
	}
	if t.native {
		if err := unix.Fchownat(in, name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set its owner: %w", err)
		}
		if kind != unix.S_IFLNK {
			if err := unix.Fchmodat(in, name, mode&0o7777, 0); err != nil {
				return fmt.Errorf("set its rights: %w", err)
			}
		}
	}
	for key, value := range h.PAXRecords {
		attribute, ok := strings.CutPrefix(key, paxXattr)
		if !ok || attribute == "" || strings.ContainsRune(attribute, 0) {
			continue
		}
		if !t.native && !strings.HasPrefix(attribute, "user.") {
			if m.xattrs == nil {
				m.xattrs = map[string]string{}
			}
			m.xattrs[attribute] = value
			if t.attributes += len(attribute) + len(value); t.attributes > maxAttributes {
				return fmt.Errorf("more than %d MiB of extended attributes that only root may set", maxAttributes>>20)
			}
			continue
		}
		// Lsetxattr has no form with a descriptor and a name.
		err := unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", in, name), attribute, []byte(value), 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM { // as tar does: not every file system has all
			return fmt.Errorf("set its attribute %.80q: %w", attribute, err)
		}
	}
	if kind == unix.S_IFDIR || !t.native {
		t.meta[id] = m
	}
	if kind == unix.S_IFDIR {
		return nil // set when it is full
	}
	return unix.UtimesNanoAt(in, name, []unix.Timespec{m.mtime, m.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}
