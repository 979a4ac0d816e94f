package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/image/tree"
)

// victim is a folder of the host's that no image may reach.
func victim(t *testing.T) (dir string, unchanged func()) {
	t.Helper()
	dir = folder(t, map[string]string{"vmlinuz-host": "the host's secret", "sub/file": "x"})
	look := func() string {
		var all strings.Builder
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			fmt.Fprintf(&all, "%s %o %d %d %d %v\n", path, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all.String()
	}
	before := look()
	return dir, func() {
		t.Helper()
		if after := look(); after != before {
			t.Errorf("the host's folder was changed, from\n%sto\n%s", before, after)
		}
	}
}

func symlink(name, to string) entry {
	return entry{tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink, Mode: 0o777}, ""}
}

// hostile are archives whose names lead out of the image, for whoever follows them
// on the host.
func hostile(dir string) map[string][]entry {
	up := strings.Repeat("../", 20)
	all := map[string][]entry{
		"a file below a link":          {symlink("evil", dir), file("evil/made", "x", 0)},
		"a file below a link to /":     {symlink("evil", "/"), file("evil"+dir+"/made", "x", 0)},
		"by dots":                      {file(up+dir+"/made", "x", 0), file("a/"+up+dir+"/made2", "x", 0)},
		"a link by dots":               {symlink("evil", up+dir), file("evil/made", "x", 0)},
		"a hard link":                  {symlink("evil", dir), entry{tar.Header{Name: "boot/vmlinuz-1", Linkname: "evil/vmlinuz-host", Typeflag: tar.TypeLink}, ""}},
		"a hard link to a path":        {entry{tar.Header{Name: "boot/vmlinuz-1", Linkname: dir + "/vmlinuz-host", Typeflag: tar.TypeLink}, ""}},
		"a kernel that is a link":      {symlink("boot/vmlinuz-1", dir+"/vmlinuz-host"), symlink("boot/initrd.img-1", "/etc/passwd")},
		"a boot that is a link":        {symlink("boot", dir)},
		"the rights of a folder":       {symlink("evil", dir), entry{tar.Header{Name: "evil/sub", Typeflag: tar.TypeDir, Mode: 0o777, Uid: 5}, ""}},
		"a folder that becomes a link": {entry{tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, file("d/a", "x", 0), symlink("d", dir), file("d/made", "x", 0)},
		"a link of links":              {symlink("a", "b"), symlink("b", dir), symlink("c", "a/sub"), file("c/made", "x", 0)},
		"links in a circle":            {symlink("a", "b"), symlink("b", "a"), file("a/made", "x", 0)},
		"a kernel that is a FIFO":      {entry{tar.Header{Name: "boot/vmlinuz-1", Typeflag: tar.TypeFifo, Mode: 0o644}, ""}},
		"a kernel that is a device":    {entry{tar.Header{Name: "boot/vmlinuz-1", Typeflag: tar.TypeBlock, Devmajor: 7, Mode: 0o644}, ""}},
		"an attribute through a link":  {symlink("evil", dir), entry{tar.Header{Name: "evil/sub/file", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, ""}},
	}
	for _, name := range []string{"tmp", "dev", "proc", "sys", "run", "etc", "boot/vmlinuz-9"} {
		all["/"+name+" is a link"] = []entry{symlink(name, dir), symlink("var", dir), file("var/"+name, "x", 0)}
	}
	return all
}

// Nothing that is in an archive, a layer of a container image, or a folder leads
// outside of the image that is made: it is made with all inside, or not at all.
func TestHostile(t *testing.T) {
	dir, unchanged := victim(t)
	for name, entries := range hostile(dir) {
		t.Run(name, func(t *testing.T) {
			whole := archive(t, entries...)
			path := filepath.Join(t.TempDir(), "archive.tar")
			if err := os.WriteFile(path, whole, 0o644); err != nil {
				t.Fatal(err)
			}
			var layers [][]byte
			for _, e := range entries {
				layers = append(layers, archive(t, e)) // each in a layer of its own
			}
			over := folder(t, map[string]string{"etc/issue": "x", "tmp/made": "x", "evil/over": "x"})
			for _, c := range []Config{
				{From: Tar, Path: path, Overlay: over, Size: 16 << 20},
				{From: OCI, Path: layoutOf(t, layers...), Size: 16 << 20},
			} {
				c.Output, c.Log = filepath.Join(t.TempDir(), "image"), testWriter{t}
				if err := Build(context.Background(), c); err != nil {
					t.Log(err)
				}
				boot, _ := filepath.Glob(c.Output + ".boot/*")
				for _, b := range boot {
					if text, err := os.ReadFile(b); err != nil || bytes.Contains(text, []byte("secret")) || bytes.Contains(text, []byte("root:")) {
						t.Errorf("%s: %q, %v: a file of the host's", b, text, err)
					}
				}
				if img, err := os.ReadFile(c.Output); err == nil && bytes.Contains(img, []byte("the host's secret")) {
					t.Error("a file of the host's is in the image")
				}
				onlyImage(t, c.Output)
			}
			unchanged()
		})
	}
}

// A folder's links are those of the image that is made of it.
func TestHostileFolder(t *testing.T) {
	dir, unchanged := victim(t)
	from := folder(t, map[string]string{"a": "x"})
	for _, name := range []string{"dev", "boot", "etc"} { // not tmp, through which the way leads
		if err := os.Symlink(dir, filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
	}
	img := build(t, Config{From: Dir, Path: from, Overlay: folder(t, map[string]string{"etc/issue": "over"})})
	unchanged()
	wantFile(t, img, "/etc/issue", "over", "0:0 0644") // a folder in place of the link
	if _, err := os.Stat(img + ".boot"); err == nil {
		t.Error("kernels of the host's were copied")
	}
}

func TestBounds(t *testing.T) {
	tests := map[string]struct {
		entries []entry
		want    string
	}{
		"a deep path":      {[]entry{file(strings.Repeat("a/", 100_000)+"f", "x", 0)}, "bytes; at most 4095"},
		"many folders":     {[]entry{file(strings.Repeat("a/", 1000)+"f", "x", 0)}, "through 1000 folders; at most"},
		"deep by links":    {deepByLinks(), "folders in each other"},
		"too large":        {[]entry{{tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 1 << 50}, ""}}, "GiB of files"},
		"an owner":         {[]entry{{tar.Header{Name: "f", Typeflag: tar.TypeReg, Uid: 1 << 40}, ""}}, "its owner is"},
		"a link to folder": {[]entry{file("d/f", "x", 0), {tar.Header{Name: "l", Linkname: "d", Typeflag: tar.TypeLink}, ""}}, "a hard link to a folder"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, e := range tt.entries {
				if e.Size == 0 {
					e.Size = int64(len(e.contents))
				}
				if err := w.WriteHeader(&e.Header); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte(e.contents)); err != nil {
					t.Fatal(err)
				}
			}
			files, err := tree.Make(filepath.Join(t.TempDir(), "tree"))
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			if err := files.Unpack(&b, tree.Archive{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A folder with so many files that mke2fs would take hours is refused before it begins.
func TestFlatFolder(t *testing.T) {
	var entries []entry
	name := strings.Repeat("n", 200)
	for i := range 35_000 {
		entries = append(entries, file(fmt.Sprintf("wide/%s%d", name, i), "", 0))
	}
	path := filepath.Join(t.TempDir(), "flat.tar")
	if err := os.WriteFile(path, archive(t, entries...), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Config{From: Tar, Path: path, Output: filepath.Join(t.TempDir(), "image"), Log: testWriter{t}}
	if err := Build(context.Background(), c); err == nil || !strings.Contains(err.Error(), "/wide most, that mke2fs would take too long") {
		t.Errorf("%v; want that it takes too long", err)
	}
	if left, _ := filepath.Glob(filepath.Dir(c.Output) + "/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A kernel that is a hole of gigabytes, or has many names, does not fill the disk
// beside the image.
func TestLargeBootFiles(t *testing.T) {
	entries := []entry{file("boot/vmlinuz-0", strings.Repeat("\x00", 64<<20), 0)}
	for i := range 100 {
		entries = append(entries, entry{tar.Header{Name: fmt.Sprintf("boot/initrd.img-%d", i), Linkname: "boot/vmlinuz-0", Typeflag: tar.TypeLink}, ""})
	}
	path := filepath.Join(t.TempDir(), "boot.tar")
	if err := os.WriteFile(path, archive(t, entries...), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Config{From: Tar, Path: path, Output: filepath.Join(t.TempDir(), "image"), Log: testWriter{t}}
	if err := Build(context.Background(), c); err == nil || !strings.Contains(err.Error(), "have 6464 MiB; at most 4096") {
		t.Errorf("%v; want that they are too large", err)
	}
	onlyImage(t, c.Output)
}

// deepByLinks is an archive in which each link leads as deep as a name may into what
// the one before has led to.
func deepByLinks() []entry {
	long := strings.Repeat("a/", 200)
	var all []entry
	at := ""
	for i := range 5 {
		link := fmt.Sprintf("l%d", i)
		all = append(all, symlink(link, "/"+at+long), file(link+"/f", "x", 0))
		at = link + "/"
	}
	return all
}

// layoutOf writes an OCI layout by hand, which says the truth.
func layoutOf(t *testing.T, layers ...[]byte) string {
	t.Helper()
	l := newLayout(t)
	var list []map[string]any
	var diffs []string
	for _, data := range layers {
		d := l.add("application/vnd.oci.image.layer.v1.tar", data)
		list = append(list, d)
		diffs = append(diffs, d["digest"].(string))
	}
	l.index(l.manifest(list, diffs))
	return l.dir
}

// layoutDir is a layout in the making.
type layoutDir struct {
	t   *testing.T
	dir string
}

func newLayout(t *testing.T) layoutDir {
	t.Helper()
	l := layoutDir{t, t.TempDir()}
	if err := os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.write("oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`))
	return l
}

func (l layoutDir) write(name string, text []byte) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), text, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l layoutDir) add(kind string, data []byte) map[string]any {
	l.t.Helper()
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	l.write("blobs/sha256/"+name, data)
	return map[string]any{"mediaType": kind, "digest": "sha256:" + name, "size": len(data)}
}

func (l layoutDir) json(kind string, v any) map[string]any {
	l.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.add(kind, text)
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

func (l layoutDir) manifest(layers []map[string]any, diffs []string) map[string]any {
	config := l.json("application/vnd.oci.image.config.v1+json", map[string]any{
		"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		"config": map[string]any{
			"Cmd": []string{"/app"}, "Env": []string{"A=1", "HOME", "*", "=x", "B=", "AWS_*"}, "User": "me:them", "WorkingDir": "/srv",
		},
	})
	return l.json(manifestType, map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": layers})
}

func (l layoutDir) index(manifests ...map[string]any) {
	l.t.Helper()
	text, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": manifests})
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("index.json", text)
}

// unpackLayout opens and unpacks a layout.
func unpackLayout(t *testing.T, dir string) (*Container, error) {
	t.Helper()
	c, err := OpenContainer(dir)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	files, err := tree.Make(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	return c, c.Unpack(files, func() error { return nil })
}

// Whatever of a layout is changed, it is noticed.
func TestLayoutIsVerified(t *testing.T) {
	data := archive(t, file("a", "x", 0))
	dir := layoutOf(t, data)
	if _, err := unpackLayout(t, dir); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) != 3 {
		t.Fatalf("%v, %v; want manifest, configuration, layer", blobs, err)
	}
	for _, blob := range blobs {
		text, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		for name, changed := range map[string][]byte{
			"another byte": bytes.Replace(bytes.Replace(text, []byte("l"), []byte("L"), 1), []byte("x"), []byte("y"), 1),
			"longer":       append(bytes.Clone(text), ' '),
			"shorter":      text[:len(text)-1],
			"empty":        nil,
		} {
			if bytes.Equal(changed, text) {
				t.Fatalf("%s: not changed", name)
			}
			if err := os.WriteFile(blob, changed, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := unpackLayout(t, dir); err == nil {
				t.Errorf("%s, %s: accepted", filepath.Base(blob)[:8], name)
			}
		}
		if err := os.WriteFile(blob, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLayouts(t *testing.T) {
	data := archive(t, file("a", "x", 0))
	good := func(l layoutDir) map[string]any {
		d := l.add("application/vnd.oci.image.layer.v1.tar", data)
		return l.manifest([]map[string]any{d}, []string{d["digest"].(string)})
	}
	nest := func(l layoutDir, manifests ...map[string]any) map[string]any {
		return l.json(indexType, map[string]any{"schemaVersion": 2, "manifests": manifests})
	}
	tests := map[string]struct {
		make func(layoutDir)
		want string // "" for none
	}{
		"one image":               {func(l layoutDir) { l.index(good(l)) }, ""},
		"twice the same":          {func(l layoutDir) { l.index(good(l), nest(l, good(l))) }, ""},
		"behind an index":         {func(l layoutDir) { l.index(nest(l), good(l)) }, ""},
		"in an index":             {func(l layoutDir) { l.index(nest(l, nest(l, good(l)))) }, ""},
		"another behind an index": {func(l layoutDir) { l.index(nest(l, good(l)), l.manifest(nil, nil)) }, "several images"},
		"no layer":                {func(l layoutDir) { l.index(l.manifest(nil, nil)) }, "no layers"},
		"deep": {func(l layoutDir) {
			d := good(l)
			for range 10 {
				d = nest(l, d)
			}
			l.index(d)
		}, "in each other"},
		"many indexes": {func(l layoutDir) {
			d := nest(l)
			all := make([]map[string]any, 1000)
			for i := range all {
				all[i] = d
			}
			l.index(all...)
		}, "more than 100 indexes"},
		"a layer without a diff": {func(l layoutDir) {
			d := l.add("application/vnd.oci.image.layer.v1.tar", data)
			l.index(l.manifest([]map[string]any{d}, nil))
		}, "tells of 0 layers"},
		"another diff": {func(l layoutDir) {
			d := l.add("application/vnd.oci.image.layer.v1.tar", data)
			l.index(l.manifest([]map[string]any{d}, []string{"sha256:" + strings.Repeat("0", 64)}))
		}, "not those of sha256:0000"},
		"a path for a digest": {func(l layoutDir) {
			l.index(map[string]any{"mediaType": manifestType, "digest": "sha256:../../../../etc/passwd", "size": 1})
		}, "no SHA-256 digest"},
		"no JSON": {func(l layoutDir) { l.write("index.json", []byte("nonsense")) }, "invalid character"},
		"half a million": {func(l layoutDir) {
			l.write("index.json", []byte(`{"manifests":[`+strings.Repeat("{},", 500_000)+`{}]}`))
		}, "at most 100000"},
		"a large index":               {func(l layoutDir) { l.write("index.json", bytes.Repeat([]byte(" "), 5<<20)) }, "larger than"},
		"an index that is a FIFO":     {func(l layoutDir) { _ = unix.Mkfifo(filepath.Join(l.dir, "index.json"), 0o644) }, "not a regular file"},
		"an index that is the host's": {func(l layoutDir) { _ = os.Symlink("/etc/passwd", filepath.Join(l.dir, "index.json")) }, "escapes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			tt.make(l)
			_, err := unpackLayout(t, l.dir)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// An index cannot hold its own digest, but one whose blob was made to be itself has
// no end.
func TestLayoutThatNamesItself(t *testing.T) {
	l := newLayout(t)
	name := strings.Repeat("a", 64)
	self := map[string]any{"mediaType": indexType, "digest": "sha256:" + name, "size": 1}
	for range 3 { // until its size is right
		text, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{self}})
		if err != nil {
			t.Fatal(err)
		}
		l.write("blobs/sha256/"+name, text)
		self["size"] = len(text)
	}
	l.index(self)
	if _, err := OpenContainer(l.dir); err == nil || !strings.Contains(err.Error(), "not those of") {
		t.Errorf("%v; want that its digest is wrong", err)
	}
}

// Labels and annotations choose nothing: no path of the host's, no kernel, no program.
// An image that is full of them is the same image.
func TestAnnotationsChooseNothing(t *testing.T) {
	dir, unchanged := victim(t)
	host := filepath.Join(dir, "vmlinuz-host")
	words := map[string]string{}
	for _, key := range []string{
		"vmm.kernel", "vmm.initrd", "vmm.path", "run.oci.handler", "run.oci.hooks.stderr", "run.oci.systemd.subgroup", "org.criu.config",
		"io.podman.annotations.privileged", "io.containers.trace-syscall", "io.kubernetes.cri-o.Devices", "io.kubernetes.cri.sandbox-id",
		"io.katacontainers.config.hypervisor.kernel", "io.katacontainers.config.hypervisor.path", "io.katacontainers.config.hypervisor.initrd",
		"com.urunc.unikernel.binary", "com.urunc.unikernel.hypervisor", "org.unikraft.kernel.image", "org.opencontainers.image.ref.name",
	} {
		words[key] = host
	}
	data := archive(t, file("app", "x", 0))
	layoutWith := func(annotations map[string]string) string {
		l := newLayout(t)
		annotated := func(v map[string]any) map[string]any {
			if annotations != nil {
				for _, key := range []string{"annotations", "labels", "Labels", "hooks", "mounts", "kernel", "urls", "path"} {
					v[key] = annotations
				}
				v["urls"] = []string{"file://" + host}
			}
			return v
		}
		layer := annotated(l.add("application/vnd.oci.image.layer.v1.tar", data))
		config := annotated(l.json("application/vnd.oci.image.config.v1+json", annotated(map[string]any{
			"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
			"config": annotated(map[string]any{"Cmd": []string{"/app"}, "Env": []string{"A=1"}, "User": "me"}),
		})))
		manifest := l.json(manifestType, annotated(map[string]any{
			"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []any{layer},
			"artifactType": "application/vnd.oci.image.config.v1+json", "subject": layer,
		}))
		l.index(annotated(manifest))
		return l.dir
	}
	describe := func(dir string) string {
		c, err := OpenContainer(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		files, err := tree.Make(filepath.Join(t.TempDir(), "tree"))
		if err != nil {
			t.Fatal(err)
		}
		defer files.Close()
		if err := c.Unpack(files, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		_, _, sum, err := files.Sum()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%q %q %q %q %s", c.Command, c.Env, c.Dir, c.User, sum)
	}

	plain, full := describe(layoutWith(nil)), describe(layoutWith(words))
	if plain != full {
		t.Errorf("with annotations it is %s\nwithout it is %s", full, plain)
	}
	c := Config{From: OCI, Path: layoutWith(words), Size: 16 << 20, Output: filepath.Join(t.TempDir(), "image"), Log: testWriter{t}}
	if err := Build(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(c.Output + ".boot"); err == nil {
		t.Error("an annotation has brought a kernel")
	}
	unchanged()
}

// What is not a variable with a value is not handed on: engines would take the value
// from the environment that they are started in.
func TestContainerConfig(t *testing.T) {
	c, err := unpackLayout(t, layoutOf(t, archive(t, file("a", "x", 0))))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Env, " "); got != "A=1 B=" {
		t.Errorf("Env = %q, want A=1 B=", got)
	}
	if c.User != "me:them" || c.Dir != "/srv" {
		t.Errorf("User %q, Dir %q", c.User, c.Dir)
	}
}

// The folder for kernels beside an image is replaced only if there is nothing else
// in it.
func TestBootFolderOfSomebodyElse(t *testing.T) {
	from := folder(t, map[string]string{"boot/vmlinuz-1": "new"})
	dir := folder(t, map[string]string{"image.boot/vmlinuz-0": "old", "image.boot/thesis.tex": "years"})
	c := Config{From: Dir, Path: from, Output: filepath.Join(dir, "image"), Log: testWriter{t}}
	if err := Build(context.Background(), c); err == nil || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("%v; want that the folder holds something else", err)
	}
	if err := os.Remove(filepath.Join(dir, "image.boot", "thesis.tex")); err != nil {
		t.Fatal(err)
	}
	build(t, c)
	if names, _ := filepath.Glob(filepath.Join(dir, "image.boot", "*")); len(names) != 1 || filepath.Base(names[0]) != "vmlinuz-1" {
		t.Errorf("kernels: %v", names)
	}
}
