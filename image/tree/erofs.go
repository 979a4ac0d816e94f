package tree

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// EROFS is Linux's read-only file system for images; fs/erofs/erofs_fs.h describes
// it. What is written here is not compressed, so that its pages are those of the
// host's page cache. First comes the super block, then all inodes, each with its
// attributes and, where that is less than a block, its contents; then the blocks of
// folders, of links and of files, whose holes are holes of the image.
const (
	erofsMagic      = 0xe0f5e1e2
	erofsSuper      = 1024 // where the super block is
	erofsSuperSize  = 128
	erofsSlot       = 32 // inodes begin at multiples of it; their number is which
	erofsInodeSize  = 64
	erofsDirentSize = 12
	erofsBlockBits  = 12

	// The layouts of an inode's contents: in blocks of their own, or behind the inode.
	erofsPlain  = 0
	erofsInline = 2

	// The form of an inode with 32 bits for owners and 64 for sizes.
	erofsExtended = 1
)

// erofsPrefixes are the prefixes of names of attributes, by number.
var erofsPrefixes = []struct {
	number byte
	prefix string
}{{1, "user."}, {2, "system.posix_acl_access"}, {3, "system.posix_acl_default"}, {4, "trusted."}, {6, "security."}}

// node is an inode of the image.
type node struct {
	mode, uid, gid, links uint32
	rdev                  uint64
	mtime                 unix.Timespec
	size                  int64
	xattrs                []byte
	target                string // of a link

	parent   *node
	children []child // of a folder

	at    int64 // in the image, in bytes
	block int64 // where its contents are; 0 for behind the inode
}

// child is a file in a folder.
type child struct {
	name string
	*node
}

func (n *node) kind() uint32   { return n.mode & unix.S_IFMT }
func (n *node) number() uint64 { return uint64(n.at / erofsSlot) }

// inline tells whether the contents of a file are behind its inode.
func (n *node) inline() bool { return n.block == 0 && n.size > 0 }

// WriteEROFS writes the tree as an EROFS file system to an empty file. The tree is
// finished. It has the same bytes whenever it is written.
func (t *Tree) WriteEROFS(to *os.File) error {
	e := &erofsImage{to: to, byInode: map[inode]*node{}, byPath: map[string]*node{}}
	if err := t.walk(e.collect); err != nil {
		return err
	}
	e.place()
	if e.blocks > 1<<32-1 {
		return fmt.Errorf("%d blocks of 4096 bytes, too many for an EROFS file system", e.blocks)
	}
	if err := e.writeInodes(); err != nil {
		return err
	}
	written := map[*node]bool{}
	err := t.walk(func(f *file) error {
		n := e.byInode[inodeOf(&f.Stat_t)]
		if f.kind() != unix.S_IFREG || n == nil || written[n] || n.size == 0 {
			return nil
		}
		written[n] = true
		return e.writeFile(f, n)
	})
	if err != nil {
		return err
	}
	return to.Truncate(e.blocks << erofsBlockBits)
}

// erofsImage is an image in the making.
type erofsImage struct {
	to      *os.File
	nodes   []*node // in the order of their inodes; the root is the first
	byInode map[inode]*node
	byPath  map[string]*node // folders
	blocks  int64
}

// collect notes a file of the tree.
func (e *erofsImage) collect(f *file) error {
	if f.kind() == unix.S_IFSOCK {
		return nil // none without the program that listens
	}
	id := inodeOf(&f.Stat_t)
	n := e.byInode[id]
	if n == nil {
		n = &node{mode: f.Mode, uid: f.Uid, gid: f.Gid, rdev: f.Rdev, mtime: f.Mtim}
		var err error
		switch f.kind() {
		case unix.S_IFREG:
			n.size = f.Size
		case unix.S_IFLNK:
			n.target, err = f.target()
			n.size = int64(len(n.target))
		case unix.S_IFDIR:
			n.links = 1 // its own name for itself
			e.byPath[f.path] = n
		}
		if err != nil {
			return err
		}
		if n.xattrs, err = f.erofsAttributes(); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		e.byInode[id] = n
		e.nodes = append(e.nodes, n)
	}
	n.links++
	if f.path == "" {
		n.parent = n
		return nil
	}
	dir, name := path.Split(f.path)
	parent := e.byPath[strings.TrimSuffix(dir, "/")]
	parent.children = append(parent.children, child{name, n})
	if n.kind() == unix.S_IFDIR {
		n.parent = parent
		parent.links++
	}
	return nil
}

// attributes are the extended attributes of a file, those that only root could have
// set included.
func (f *file) attributes() (map[string]string, error) {
	all := map[string]string{}
	// There is no form with a descriptor and a name, and a link is not to be followed.
	at := fmt.Sprintf("/proc/self/fd/%d/%s", f.in, f.name)
	if f.name == "." {
		at = fmt.Sprintf("/proc/self/fd/%d", f.in)
	}
	list, get := unix.Llistxattr, unix.Lgetxattr
	if f.name == "." { // the path is the kernel's own link
		list, get = unix.Listxattr, unix.Getxattr
	}
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := list(at, names)
	if err == unix.ENOTSUP {
		n, err = 0, nil
	}
	if err != nil {
		return nil, fmt.Errorf("its attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || name == "security.selinux" { // the host's, about the host's file
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := get(at, name, value)
		if err != nil {
			return nil, fmt.Errorf("its attribute %.80q: %w", name, err)
		}
		all[name] = string(value[:n])
	}
	for name, value := range f.xattrs {
		all[name] = value
	}
	return all, nil
}

// erofsAttributes are a file's extended attributes as they are behind its inode.
func (f *file) erofsAttributes() ([]byte, error) {
	all, err := f.attributes()
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	// struct erofs_xattr_ibody_header: a filter, which is not used, and no shared ones.
	b := append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 8)...)
	header := len(b)
	for _, name := range names {
		value := all[name]
		for _, p := range erofsPrefixes {
			rest, ok := strings.CutPrefix(name, p.prefix)
			if !ok {
				continue
			}
			if len(rest) > 255 || len(value) > 1<<16-1 {
				return nil, fmt.Errorf("its attribute %.80q has %d bytes", name, len(value))
			}
			b = append(b, byte(len(rest)), p.number)
			b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
			b = append(append(b, rest...), value...)
			b = append(b, make([]byte, -len(b)&3)...)
		}
	}
	if len(b) == header {
		return nil, nil
	}
	if (len(b)-header)/4+1 > 1<<16-1 {
		return nil, errors.New("its attributes are too many for an EROFS file system")
	}
	return b, nil
}

// place says where everything is.
func (e *erofsImage) place() {
	at := int64(erofsSuper + erofsSuperSize)
	for _, n := range e.nodes {
		if n.kind() == unix.S_IFDIR {
			n.size = n.folderSize()
		}
		size := int64(erofsInodeSize + len(n.xattrs))
		if n.size > 0 && n.size < blockSize && size+n.size <= blockSize {
			// What is behind an inode may not be in two blocks.
			if size += n.size; at%blockSize+size > blockSize {
				at = blocks(at) * blockSize
			}
		} else if n.size > 0 {
			n.block = 1 // one of its own, below
		}
		n.at = at
		at += (size + erofsSlot - 1) &^ (erofsSlot - 1)
	}
	e.blocks = blocks(at)
	for _, n := range e.nodes {
		if n.block != 0 {
			n.block = e.blocks
			e.blocks += blocks(n.size)
		}
	}
}

// entries are what a folder has, itself and the one above included, in the order of
// the bytes of their names.
func (n *node) entries() []child {
	all := append([]child{{".", n}, {"..", n.parent}}, n.children...)
	slices.SortFunc(all, func(a, b child) int { return strings.Compare(a.name, b.name) })
	return all
}

// fill cuts a folder's entries into those of a block and the rest.
func fill(all []child) (block, rest []child, size int64) {
	for i, c := range all {
		more := int64(erofsDirentSize + len(c.name))
		if size+more > blockSize {
			return all[:i], all[i:], size
		}
		size += more
	}
	return all, nil, size
}

func (n *node) folderSize() (size int64) {
	for rest := n.entries(); len(rest) > 0; {
		var last int64
		size = blocks(size) * blockSize
		_, rest, last = fill(rest)
		size += last
	}
	return size
}

// folder is the contents of a folder: each block has the entries, and then their
// names.
func (n *node) folder() []byte {
	var all []byte
	for rest := n.entries(); len(rest) > 0; {
		all = append(all, make([]byte, blocks(int64(len(all)))*blockSize-int64(len(all)))...)
		var block []child
		block, rest, _ = fill(rest)
		name := len(block) * erofsDirentSize
		for _, c := range block {
			all = binary.LittleEndian.AppendUint64(all, c.number())
			all = binary.LittleEndian.AppendUint16(all, uint16(name))
			all = append(all, erofsType(c.kind()), 0)
			name += len(c.name)
		}
		for _, c := range block {
			all = append(all, c.name...)
		}
	}
	return all
}

// erofsType is a kind of file as in a folder: include/linux/fs_types.h.
func erofsType(kind uint32) byte {
	switch kind {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

// writeInodes writes all but the contents of files.
func (e *erofsImage) writeInodes() error {
	w := &padded{w: bufio.NewWriterSize(io.NewOffsetWriter(e.to, 0), 1<<20)}
	w.to(erofsSuper)
	w.write(e.superBlock())
	for i, n := range e.nodes {
		w.to(n.at)
		w.write(n.inode(uint32(i + 1)))
		w.write(n.xattrs)
		if n.inline() {
			w.write(n.own())
		}
	}
	w.to(blocks(w.at) * blockSize)
	if w.err == nil {
		w.err = w.w.Flush()
	}
	for _, n := range e.nodes {
		if contents := n.own(); w.err == nil && n.block != 0 && contents != nil {
			_, w.err = e.to.WriteAt(contents, n.block<<erofsBlockBits)
		}
	}
	return w.err
}

// own are the contents of what is no regular file.
func (n *node) own() []byte {
	switch n.kind() {
	case unix.S_IFDIR:
		return n.folder()
	case unix.S_IFLNK:
		return []byte(n.target)
	}
	return nil
}

// superBlock is struct erofs_super_block.
func (e *erofsImage) superBlock() []byte {
	b := make([]byte, erofsSuperSize)
	binary.LittleEndian.PutUint32(b, erofsMagic)
	b[12] = erofsBlockBits
	binary.LittleEndian.PutUint16(b[14:], uint16(e.nodes[0].number()))
	binary.LittleEndian.PutUint64(b[16:], uint64(len(e.nodes)))
	binary.LittleEndian.PutUint32(b[36:], uint32(e.blocks))
	return b
}

// inode is struct erofs_inode_extended. The number is the one that programs with 32
// bits for it see.
func (n *node) inode(number uint32) []byte {
	b := make([]byte, erofsInodeSize)
	format := uint16(erofsExtended | erofsPlain<<1)
	if n.inline() {
		format = erofsExtended | erofsInline<<1
	}
	binary.LittleEndian.PutUint16(b, format)
	if len(n.xattrs) > 0 {
		binary.LittleEndian.PutUint16(b[2:], uint16((len(n.xattrs)-12)/4+1))
	}
	binary.LittleEndian.PutUint16(b[4:], uint16(n.mode))
	binary.LittleEndian.PutUint64(b[8:], uint64(n.size))
	union := uint32(n.block)
	if k := n.kind(); k == unix.S_IFCHR || k == unix.S_IFBLK {
		// As Linux writes it down: new_encode_dev of include/linux/kdev_t.h.
		major, minor := unix.Major(n.rdev), unix.Minor(n.rdev)
		union = minor&0xff | major<<8 | minor&^0xff<<12
	}
	binary.LittleEndian.PutUint32(b[16:], union)
	binary.LittleEndian.PutUint32(b[20:], number)
	binary.LittleEndian.PutUint32(b[24:], n.uid)
	binary.LittleEndian.PutUint32(b[28:], n.gid)
	binary.LittleEndian.PutUint64(b[32:], uint64(n.mtime.Sec))
	binary.LittleEndian.PutUint32(b[40:], uint32(n.mtime.Nsec))
	binary.LittleEndian.PutUint32(b[44:], n.links)
	return b
}

// writeFile writes the contents of a regular file, but for its holes.
func (e *erofsImage) writeFile(f *file, n *node) error {
	from, err := f.open()
	if err != nil {
		return err
	}
	defer from.Close()
	at := n.block << erofsBlockBits
	if n.inline() {
		at = n.at + erofsInodeSize + int64(len(n.xattrs))
	}
	buffer := make([]byte, 256<<10)
	for pos := int64(0); pos < n.size; {
		data, err := from.Seek(pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // the rest is a hole
		}
		if err != nil {
			return err
		}
		hole, err := from.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for pos = data; pos < min(hole, n.size); {
			piece := buffer[:min(int64(len(buffer)), hole-pos, n.size-pos)]
			if _, err := from.ReadAt(piece, pos); err != nil {
				return err
			}
			if _, err := e.to.WriteAt(piece, at+pos); err != nil {
				return err
			}
			pos += int64(len(piece))
		}
	}
	return nil
}

// padded writes from the begin of a file. After an error it does nothing.
type padded struct {
	w   *bufio.Writer
	at  int64
	err error
}

func (p *padded) write(b []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(b)
		p.at += int64(len(b))
	}
}

// to writes zeros up to an offset.
func (p *padded) to(at int64) {
	for p.at < at && p.err == nil {
		p.write(zeros[:min(at-p.at, int64(len(zeros)))])
	}
}
