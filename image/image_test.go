package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// build makes an image and returns its path.
func build(t *testing.T, c Config) string {
	t.Helper()
	if c.Output == "" {
		c.Output = filepath.Join(t.TempDir(), "image")
	}
	c.Log = testWriter{t}
	if err := Build(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/e2fsck", "-fn", c.Output).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	onlyImage(t, c.Output)
	return c.Output
}

// onlyImage checks that nothing is left beside the image.
func onlyImage(t *testing.T, path string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".vmm-image-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// debugfs runs a command of the file system's debugger: it reads an image with
// no rights and no mount.
func debugfs(t *testing.T, img, command string) string {
	t.Helper()
	out, err := exec.Command("/sbin/debugfs", "-R", command, img).Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", command, err)
	}
	return string(out)
}

// wantFile checks the contents and, as "user:group mode", the rights of a file.
func wantFile(t *testing.T, img, name, contents, rights string) {
	t.Helper()
	if got := debugfs(t, img, "cat "+name); got != contents {
		t.Errorf("%s: %q; want %q", name, got, contents)
	}
	stat := strings.Fields(debugfs(t, img, "stat "+name))
	field := func(name string) string {
		for i, f := range stat[:len(stat)-1] {
			if f == name {
				return stat[i+1]
			}
		}
		return ""
	}
	if got := field("User:") + ":" + field("Group:") + " " + field("Mode:"); got != rights {
		t.Errorf("%s: %s; want %s", name, got, rights)
	}
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, contents := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDir(t *testing.T) {
	dir := folder(t, map[string]string{"etc/motd": "hello\n", "boot/vmlinuz-9": "kernel", "boot/initrd.img-9": "initrd", "a file": "spaces"})
	if err := os.Chmod(filepath.Join(dir, "etc/motd"), 0o751|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/motd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	overlay := folder(t, map[string]string{"etc/issue": "over\n"})
	img := build(t, Config{From: Dir, Path: dir, Overlay: overlay})
	t.Logf("as user %d", os.Getuid())
	wantFile(t, img, "/etc/motd", "hello\n", "0:0 04751")
	wantFile(t, img, "/etc/issue", "over\n", "0:0 0644")
	wantFile(t, img, `"/a file"`, "spaces", "0:0 0644")
	if got := debugfs(t, img, "stat /link"); !strings.Contains(got, `Fast link dest: "/etc/motd"`) {
		t.Errorf("link: %s", got)
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp"} {
		if got := debugfs(t, img, "stat /"+dir); !strings.Contains(got, "Type: directory") {
			t.Errorf("/%s: %s", dir, got)
		}
	}
	for name, want := range map[string]string{"vmlinuz-9": "kernel", "initrd.img-9": "initrd"} {
		got, err := os.ReadFile(filepath.Join(img+".boot", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

// entry is a file of an archive.
type entry struct {
	tar.Header
	contents string
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.contents))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.contents); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, contents string, uid int) entry {
	return entry{tar.Header{Name: name, Mode: 0o640, Uid: uid, Gid: uid + 1, Typeflag: tar.TypeReg}, contents}
}

// Owners and device nodes of an archive arrive in the image, whoever makes it.
func TestTar(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(archive(t, file("etc/shadow", "secret", 1234),
		entry{tar.Header{Name: "console", Typeflag: tar.TypeChar, Devmajor: 5, Devminor: 1, Mode: 0o600}, ""})); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	img := build(t, Config{From: Tar, Path: path, Size: 32 << 20})
	wantFile(t, img, "/etc/shadow", "secret", "1234:1235 0640")
	if got := debugfs(t, img, "stat /console"); !strings.Contains(got, "character special") || !strings.Contains(got, "05:01") {
		t.Errorf("device: %s", got)
	}
	if info, err := os.Stat(img); err != nil || info.Size() != 32<<20 {
		t.Errorf("size: %v %v", info, err)
	}
}

// Capabilities of a file, which only root can set, arrive in the image too, whoever
// makes it; and other names of the file stay names of it.
func TestTarAttributes(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_raw+ep: capabilities(7)
	ping := file("bin/ping", "ping", 0)
	ping.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability}
	path := filepath.Join(t.TempDir(), "archive")
	data := archive(t, ping, entry{tar.Header{Name: "bin/ping6", Linkname: "bin/ping", Typeflag: tar.TypeLink}, ""})
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	img := build(t, Config{From: Tar, Path: path, Size: 16 << 20})
	for _, name := range []string{"/bin/ping", "/bin/ping6"} {
		wantFile(t, img, name, "ping", "0:1 0640")
		if got := debugfs(t, img, "ea_list "+name); !strings.Contains(got, "security.capability (20)") {
			t.Errorf("%s: attributes: %s", name, got)
		}
	}
}

// The layers of a container image lie one over the other, and a whiteout in one
// removes the file of another.
func TestOCI(t *testing.T) {
	var layers []v1.Layer
	for _, data := range [][]byte{
		archive(t, file("a", "first", 1), file("gone", "first", 1), file("both", "first", 1)),
		archive(t, file("both", "second", 2), file(".wh.gone", "", 0)),
	} {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	folder, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := folder.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	made := build(t, Config{From: OCI, Path: dir})
	wantFile(t, made, "/a", "first", "1:2 0640")
	wantFile(t, made, "/both", "second", "2:3 0640")
	if got := debugfs(t, made, "cat /gone"); got != "" {
		t.Errorf("a removed file is there: %q", got)
	}
}

// A user without rights makes the same image.
func TestUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("every other test is this one")
	}
	dir, err := os.MkdirTemp("/tmp", "vmm-image-test-") // in folders that another user may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if err := errors.Join(os.WriteFile(dir+"/test", self, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/test", "-test.run", "TestTar|TestOCI|TestDir|TestHostile", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("as user 65534")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestErrors(t *testing.T) {
	dir := folder(t, map[string]string{
		"notes.txt": strings.Repeat("this is no archive\n", 100), "cut.gz": "\x1f\x8b\x08\x00cut",
		"oci/oci-layout": `{"imageLayoutVersion": "1.0.0"}`, "oci/index.json": `{"schemaVersion": 2, "manifests": []}`,
		"big/zeros": strings.Repeat("0", 4<<20),
	})
	tests := []struct {
		name string
		Config
		want string
	}{
		{"no folder", Config{From: Dir, Path: dir + "/absent"}, "absent: no such file"},
		{"a file for a folder", Config{From: Dir, Path: dir + "/notes.txt"}, "notes.txt: not a directory"},
		{"no overlay", Config{From: Dir, Path: dir + "/big", Overlay: dir + "/absent"}, "absent: no such file"},
		{"in itself", Config{From: Dir, Path: dir, Output: dir + "/big/image"}, "put it elsewhere"},
		{"no file system", Config{From: Dir, Path: dir + "/big", Size: 3}, "choose at least 1M"},
		{"no archive", Config{From: Tar, Path: dir + "/absent"}, "no such file"},
		{"text", Config{From: Tar, Path: dir + "/notes.txt"}, "does not look like a tar archive"},
		{"cut", Config{From: Tar, Path: dir + "/cut.gz"}, "EOF"},
		{"no layout", Config{From: OCI, Path: dir}, "not an OCI image layout"},
		{"empty layout", Config{From: OCI, Path: dir + "/oci"}, "no image for linux"},
		{"source", Config{From: "zip", Path: dir}, "choose debian, dir, tar or oci-layout"},
		{"too small", Config{From: Dir, Path: dir + "/big", Size: 2 << 20}, "mke2fs"},
		{"no place", Config{From: Dir, Path: dir, Output: dir + "/absent/image"}, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.Config
			if c.Output == "" {
				c.Output = filepath.Join(t.TempDir(), "image")
			}
			c.Log = testWriter{t}
			err := Build(context.Background(), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want %q", err, tt.want)
			}
			if _, err := os.Stat(c.Output); err == nil {
				t.Error("an image is there all the same")
			}
			onlyImage(t, c.Output)
		})
	}
}

// An image that is there stays when another cannot be made in its place, and
// one that is stopped leaves nothing.
func TestCancel(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	feed, err := os.OpenFile(fifo, os.O_RDWR, 0) // an archive that never ends
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if _, err := feed.Write(archive(t, file("a", "x", 0))[:512]); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(img, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- Build(ctx, Config{From: Tar, Path: fifo, Output: img, Replace: true, Log: io.Discard})
	}()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	if got, err := os.ReadFile(img); err != nil || string(got) != "old" {
		t.Errorf("the old image: %q %v", got, err)
	}
	onlyImage(t, img)
}

// What writes an archive may take its time to end after the last of it: to
// clean up, say.
func TestSlowEnd(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		feed, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer feed.Close()
		// tar reads no further than the record that holds the archive's end.
		record := make([]byte, 20*512)
		copy(record, archive(t, file("a", "x", 0)))
		if _, err := feed.Write(record); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
	}()
	img := build(t, Config{From: Tar, Path: fifo})
	wantFile(t, img, "/a", "x", "0:1 0640")
}
