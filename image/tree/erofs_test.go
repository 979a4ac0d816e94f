package tree

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// writeErofs writes a tree as an image, and returns its path.
func writeErofs(t *testing.T, files *Tree) string {
	t.Helper()
	if _, err := files.Finish(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := files.WriteEROFS(f); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// strange are files as images may have them.
func strange() []tar.Header {
	file := reg("usr/bin/su", "setuid")
	file.Mode, file.Uid, file.Gid = 0o4755, 0, 42
	file.ModTime = time.Unix(1_000_000_000, 7)
	file.Format = tar.FormatPAX
	far := reg("far", "owned by a user of a large number")
	far.Uid, far.Gid, far.Format = 1<<32-2, 100_000, tar.FormatPAX
	sticky := dir("tmp")
	sticky.Mode = 0o1777
	null := tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}
	disk := tar.Header{Name: "dev/large", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 259, Devminor: 70_000, Format: tar.FormatPAX}
	all := []tar.Header{
		file, far, sticky, null, disk,
		{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
		reg("etc/empty", ""), reg("etc/small", "s"),
		reg("etc/block", strings.Repeat("b", blockSize)), reg("etc/nearly", strings.Repeat("n", blockSize-1)),
		reg("etc/more", strings.Repeat("m", 3*blockSize+1)), reg("etc/behind", strings.Repeat("i", blockSize-erofsInodeSize)),
		hard("lib/again", "etc/more"), hard("third", "etc/more"),
		link("sbin", "usr/bin"), link("up", "../../.."), link("long", strings.Repeat("x/", 2000)),
		reg(strings.Repeat("l", 255), "a long name"), reg("latin-\xe9\xff", "no UTF-8"), reg("new\nline", "a line break"),
		dir("none"), dir("many"),
	}
	for i := range 500 { // a folder of several blocks
		all = append(all, reg(fmt.Sprintf("many/%0*d", 1+i%200, i), fmt.Sprint(i)))
	}
	return all
}

// line is what an image says of a file.
func line(name string, mode, uid, gid, links uint32, rdev uint64, size int64, mtime int64, nsec int64, xattrs map[string]string, contents string) string {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0 // of the file system
	}
	var attributes []string
	for n, v := range xattrs {
		attributes = append(attributes, fmt.Sprintf("%s=%q", n, v))
	}
	slices.Sort(attributes)
	return fmt.Sprintf("%q %o %d:%d %d %x %d %d.%d %s %s", name, mode, uid, gid, links, rdev, size, mtime, nsec, attributes, contents)
}

// wanted is what the image of a tree is to say.
func wanted(t *testing.T, files *Tree) []string {
	t.Helper()
	links := map[inode]uint32{}
	below := map[string]uint32{}
	if err := files.walk(func(f *file) error {
		links[inodeOf(&f.Stat_t)]++
		if f.kind() == unix.S_IFDIR && f.path != "" {
			below[strings.TrimPrefix(filepath.Dir("/"+f.path), "/")]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var all []string
	err := files.walk(func(f *file) error {
		contents, n, rdev := "", links[inodeOf(&f.Stat_t)], uint64(0)
		switch f.kind() {
		case unix.S_IFREG:
			h := sha256.New()
			if err := f.copyTo(h); err != nil {
				return err
			}
			contents = fmt.Sprintf("%x", h.Sum(nil))
		case unix.S_IFLNK:
			to, err := f.target()
			if err != nil {
				return err
			}
			contents = to
		case unix.S_IFDIR:
			n = 2 + below[f.path]
		case unix.S_IFCHR, unix.S_IFBLK:
			rdev = f.Rdev
		}
		xattrs, err := f.attributes()
		if err != nil {
			return err
		}
		name := f.path
		if name == "" {
			name = "."
		}
		all = append(all, line(name, f.Mode, f.Uid, f.Gid, n, rdev, f.Size, f.Mtim.Sec, f.Mtim.Nsec, xattrs, contents))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// read is what an image says, by another implementation.
func read(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	image, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = fs.WalkDir(image, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*erofs.Stat)
		contents := ""
		switch mode := unixMode(st.Mode); mode & unix.S_IFMT {
		case unix.S_IFREG:
			in, err := image.Open(name)
			if err != nil {
				return err
			}
			defer in.Close()
			h := sha256.New()
			if _, err := io.Copy(h, in); err != nil {
				return err
			}
			contents = fmt.Sprintf("%x", h.Sum(nil))
		case unix.S_IFLNK:
			if contents, err = fs.ReadLink(image, name); err != nil {
				return err
			}
		}
		all = append(all, line(name, unixMode(st.Mode), st.UID, st.GID, uint32(st.Nlink), uint64(st.Rdev), st.Size, int64(st.Mtime), int64(st.MtimeNs), st.Xattrs, contents))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// unixMode is a mode in the form of stat(2).
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for from, to := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if m&from != 0 {
			mode |= to
		}
	}
	switch {
	case m.IsDir():
		return mode | unix.S_IFDIR
	case m&fs.ModeSymlink != 0:
		return mode | unix.S_IFLNK
	case m&fs.ModeNamedPipe != 0:
		return mode | unix.S_IFIFO
	case m&fs.ModeCharDevice != 0:
		return mode | unix.S_IFCHR
	case m&fs.ModeDevice != 0:
		return mode | unix.S_IFBLK
	}
	return mode | unix.S_IFREG
}

// What is in a tree is in its image: another implementation finds the same, and
// Debian's checker no fault.
func TestEROFS(t *testing.T) {
	files := unpacked(t, Archive{}, strange())
	path := writeErofs(t, files)
	if diff := cmp.Diff(wanted(t, files), read(t, path)); diff != "" {
		t.Errorf("the image differs (-want +got):\n%s", diff)
	}
	checked(t, path)
	if again := writeErofs(t, files); !same(t, path, again) {
		t.Error("written again, the image has other bytes")
	}
}

func checked(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("fsck.erofs", "--extract", path).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(one, other)
}

// Attributes arrive, those that take root too.
func TestEROFSAttributes(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	large := strings.Repeat("v", 5000) // of more than a block with its inode
	for name, records := range map[string]map[string]string{
		"ping":  {paxXattr + "security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		"large": {paxXattr + "security.large": large, paxXattr + "security.small": "s"},
	} {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: records, Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := Make(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	files.native = false // who is root here could set them on some file systems only
	if err := files.Unpack(&b, Archive{}); err != nil {
		t.Fatal(err)
	}
	path := writeErofs(t, files)
	got := strings.Join(read(t, path), "\n")
	for _, want := range []string{`security.capability="\x01\x00\x00\x02\x00 `, "security.large=" + strconv.Quote(large), `security.small="s"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %.60s in the image:\n%.2000s", want, got)
		}
	}
	checked(t, path)
}

// A file of zeros takes no room, in the image neither.
func TestEROFSHoles(t *testing.T) {
	files, err := Make(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	const size = 1 << 30
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	if err := files.Unpack(io.MultiReader(&b, io.LimitReader(zeroReader{}, size+1024)), Archive{}); err != nil {
		t.Fatal(err)
	}
	path := writeErofs(t, files)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size < size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes, %d on disk; want those of the file, and next to none on disk", st.Size, st.Blocks*512)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }
