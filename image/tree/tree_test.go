package tree

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func entry(kind byte, name, text string) tar.Header {
	h := tar.Header{Name: name, Typeflag: kind, Mode: 0o755, Linkname: text}
	if kind == tar.TypeReg {
		h.Size, h.Linkname = int64(len(text)), ""
		h.PAXRecords = map[string]string{"text": text}
	}
	return h
}

func reg(name, text string) tar.Header { return entry(tar.TypeReg, name, text) }
func dir(name string) tar.Header       { return entry(tar.TypeDir, name, "") }
func link(name, to string) tar.Header  { return entry(tar.TypeSymlink, name, to) }
func hard(name, to string) tar.Header  { return entry(tar.TypeLink, name, to) }

func archive(t *testing.T, entries ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		text := h.PAXRecords["text"]
		delete(h.PAXRecords, "text")
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func unpacked(t *testing.T, a Archive, layers ...[]tar.Header) *Tree {
	t.Helper()
	files, err := Make(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	for _, entries := range layers {
		if err := files.Unpack(archive(t, entries...), a); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// listing is what a tree holds: names, with what is in files and where links lead.
func listing(t *testing.T, files *Tree) []string {
	t.Helper()
	var all []string
	err := files.walk(func(f *file) error {
		line := f.path
		switch {
		case f.path == "":
			return nil
		case f.Mode&0o170000 == 0o040000:
			line += "/"
		case f.Mode&0o170000 == 0o120000:
			to, err := f.target()
			if err != nil {
				return err
			}
			line += " -> " + to
		default:
			var b strings.Builder
			if err := f.copyTo(&b); err != nil {
				return err
			}
			line += " " + b.String()
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayers(t *testing.T) {
	tests := map[string]struct {
		layers [][]tar.Header
		want   []string
	}{
		"a file below a link of the layer below": {
			[][]tar.Header{{dir("real"), link("l", "/real")}, {reg("l/f", "x")}}, []string{"l -> /real", "real/", "real/f x"},
		},
		"a file below a link that leads nowhere": {
			[][]tar.Header{{link("l", "../../made/here")}, {reg("l/f", "x")}}, []string{"l -> ../../made/here", "made/", "made/here/", "made/here/f x"},
		},
		"a link replaces a folder": {
			[][]tar.Header{{dir("d"), reg("d/f", "x")}, {link("d", "/")}, {reg("d/g", "y")}}, []string{"d -> /", "g y"},
		},
		"a folder replaces a link":       {[][]tar.Header{{link("d", "/")}, {dir("d"), reg("d/f", "x")}}, []string{"d/", "d/f x"}},
		"a folder that stays":            {[][]tar.Header{{dir("d"), reg("d/f", "x")}, {dir("d")}}, []string{"d/", "d/f x"}},
		"a whiteout":                     {[][]tar.Header{{reg("d/f", "x"), reg("d/g", "x")}, {reg("d/.wh.f", "")}}, []string{"d/", "d/g x"}},
		"a whiteout of a folder":         {[][]tar.Header{{reg("d/e/f", "x")}, {reg(".wh.d", "")}}, nil},
		"a whiteout of a link":           {[][]tar.Header{{reg("f", "x"), link("l", "f")}, {reg(".wh.l", "")}}, []string{"f x"}},
		"a whiteout of nothing":          {[][]tar.Header{{reg("f", "x")}, {reg("d/.wh.g", "")}}, []string{"d/", "f x"}},
		"a whiteout before the new file": {[][]tar.Header{{reg("f", "old")}, {reg(".wh.f", ""), reg("f", "new")}}, []string{"f new"}},
		"a whiteout after the new file":  {[][]tar.Header{{reg("f", "old")}, {reg("f", "new"), reg(".wh.f", "")}}, []string{"f new"}},
		"an opaque folder":               {[][]tar.Header{{reg("d/f", "x"), reg("d/e/g", "x")}, {dir("d"), reg("d/.wh..wh..opq", ""), reg("d/h", "y")}}, []string{"d/", "d/h y"}},
		"an opaque folder, told last": {
			[][]tar.Header{{reg("d/f", "x"), reg("d/e/g", "x")}, {reg("d/h", "y"), reg("d/e/i", "y"), reg("d/.wh..wh..opq", "")}},
			[]string{"d/", "d/e/", "d/e/i y", "d/h y"},
		},
		"a hard link to the layer below": {[][]tar.Header{{reg("f", "x")}, {hard("g", "/f")}}, []string{"f x", "g x"}},
		"a hard link to itself":          {[][]tar.Header{{reg("f", "x"), hard("f", "f")}}, []string{"f x"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, listing(t, unpacked(t, Archive{Layer: true}, tt.layers...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is no layer has files of every name.
func TestNoLayer(t *testing.T) {
	got := listing(t, unpacked(t, Archive{}, []tar.Header{reg("f", "x"), reg(".wh.f", "")}))
	if diff := cmp.Diff([]string{".wh.f ", "f x"}, got); diff != "" {
		t.Error(diff)
	}
}

// An initial RAM disk holds what is in the tree, whatever its names are like: here
// those with which a list by lines names files of the host.
func TestInitrd(t *testing.T) {
	files := unpacked(t, Archive{}, []tar.Header{
		dir("dev"), reg("x\n/etc/shadow", "mine"), dir("x\n"), reg("-rf", "a"), reg("a", "first"), hard("b", "a"), link("l", "/etc/shadow"),
		reg("dev/console", "no device"),
	})
	var b bytes.Buffer
	if err := files.WriteInitrd(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio, which is to read the archive, is not installed")
	}
	to := t.TempDir()
	cpio := exec.Command("cpio", "-i", "-d", "--quiet", "--no-absolute-filenames")
	if os.Geteuid() != 0 {
		cpio.Args = append(cpio.Args, "--nonmatching", "dev/console")
	}
	cpio.Dir, cpio.Stdin = to, &b
	if out, err := cpio.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	again, err := Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	want := []string{"-rf a", "a first", "b first", "dev/", "l -> /etc/shadow", "x\n/", "x\n/etc/", "x\n/etc/shadow mine"}
	got := slices.DeleteFunc(listingButDevices(t, again), func(s string) bool { return s == "" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// listingButDevices leaves devices out, and checks that there is only the console.
func listingButDevices(t *testing.T, files *Tree) []string {
	t.Helper()
	err := files.walk(func(f *file) error {
		if f.kind() == 0o020000 {
			if f.path != console || f.Rdev != 5<<8|1 {
				t.Errorf("a device %s, %#x", f.path, f.Rdev)
			}
			return os.Remove(filepath.Join(files.Path(), f.path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return listing(t, files)
}

// A tree written as a tar archive and unpacked again is the same.
func TestTar(t *testing.T) {
	entries := []tar.Header{dir("d"), reg("d/a\nb", "x"), link("l", "d"), hard("h", "d/a\nb"), reg("empty", "")}
	files := unpacked(t, Archive{}, entries)
	var b bytes.Buffer
	if err := files.WriteTar(&b); err != nil {
		t.Fatal(err)
	}
	again := unpacked(t, Archive{})
	if err := again.Unpack(&b, Archive{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listing(t, files), listing(t, again)); diff != "" {
		t.Error(diff)
	}
	_, _, one, err1 := files.Sum()
	_, _, two, err2 := again.Sum()
	if err1 != nil || err2 != nil || one != two {
		t.Errorf("Sum: %s, %v and %s, %v", one, err1, two, err2)
	}
}

func TestUsage(t *testing.T) {
	entries := []tar.Header{reg("big", strings.Repeat("x", 10_000)), hard("same", "big"), reg("holes", strings.Repeat("\x00", 1<<20))}
	for range 3 {
		entries = append(entries, link(strings.Repeat("l", len(entries)), "big"))
	}
	u, err := unpacked(t, Archive{}, entries).Finish()
	if err != nil {
		t.Fatal(err)
	}
	if u.Inodes != 6 || u.Bytes < 16<<10 || u.Bytes > 64<<10 {
		t.Errorf("%+v: want 6 inodes, and no room for holes", u)
	}
}

// What mke2fs looks through grows with the square of what is in one folder.
func TestUsageOfWideFolders(t *testing.T) {
	var entries []tar.Header
	name := strings.Repeat("n", 97) // 108 bytes in a folder: 37 to a block
	for i := range 100 {
		entries = append(entries, reg(fmt.Sprintf("wide/%s%03d", name, i), ""))
	}
	u, err := unpacked(t, Archive{}, entries).Finish()
	if err != nil {
		t.Fatal(err)
	}
	if u.Search != 100*3+1 || u.Widest != "wide" {
		t.Errorf("%+v: want 301 blocks, of wide most", u)
	}
}

// An archive is refused before what it brings takes the host's memory, or hours.
func TestLimits(t *testing.T) {
	var many []tar.Header
	for i := range 20 {
		many = append(many, reg(fmt.Sprint(i), ""))
	}
	hide := append(slices.Clone(many), slices.Repeat([]tar.Header{reg(".wh..wh..opq", "")}, 3)...)
	tests := map[string]struct {
		nearly  func(*Tree) // takes the tree to where the limit is near
		entries []tar.Header
		want    string
	}{
		"files":          {func(t *Tree) { t.files = MaxFiles - 10 }, many, "more than 4194304 files"},
		"no files":       {func(t *Tree) { t.files = MaxFiles - 10 }, slices.Repeat([]tar.Header{reg(".wh.gone", "")}, 20), "more than 4194304 files"},
		"bytes":          {func(t *Tree) { t.bytes = MaxBytes - 10 }, []tar.Header{reg("a", "twelve bytes")}, "more than 1024 GiB"},
		"hidden folders": {func(t *Tree) { t.cleared = maxCleared - 50 }, hide, "looking at more than"},
		"attributes":     {func(t *Tree) { t.attributes = maxAttributes - 10 }, []tar.Header{withAttribute("a", "security.x", "twelve bytes")}, "extended attributes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files := unpacked(t, Archive{})
			files.native = false // attributes are kept here
			tt.nearly(files)
			if err := files.Unpack(archive(t, tt.entries...), Archive{Layer: true}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func withAttribute(name, attribute, value string) tar.Header {
	h := reg(name, "")
	h.PAXRecords = map[string]string{paxXattr + attribute: value}
	return h
}

// What is mounted on is a folder, whatever the image has there.
func TestMakeMountPoint(t *testing.T) {
	files := unpacked(t, Archive{}, []tar.Header{link("dev", "/etc"), reg("proc", "x"), reg("sys/kept", "x"), dir("etc")})
	for _, name := range []string{"dev", "proc", "sys", "run"} {
		if err := files.MakeMountPoint(name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"dev/", "etc/", "proc/", "run/", "sys/", "sys/kept x"}, listing(t, files)); diff != "" {
		t.Error(diff)
	}
}

// Only regular files are opened, and those by their way in the tree.
func TestOpen(t *testing.T) {
	files := unpacked(t, Archive{}, []tar.Header{
		reg("etc/passwd", "the image's"), link("l", "/etc/passwd"), link("up", "../../../etc/passwd"), entry(tar.TypeFifo, "fifo", ""), dir("d"),
	})
	for name, want := range map[string]string{"l": "the image's", "up": "the image's", "/etc/../etc/passwd": "the image's", "fifo": "", "d": "", "absent": ""} {
		f, err := files.Open(name)
		if (err == nil) != (want != "") {
			t.Errorf("Open(%q): %v", name, err)
		}
		if err == nil {
			text, _ := io.ReadAll(f)
			f.Close()
			if string(text) != want {
				t.Errorf("Open(%q): %q, want %q", name, text, want)
			}
		}
	}
}
