package share

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"
)

// mount serves a folder and returns its root as a client sees it.
func mount(t *testing.T, dir string, readOnly bool) p9.File {
	t.Helper()
	f, err := Open(dir, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- f.Serve(there, there) }()
	client, err := p9.NewClient(here, p9.WithMessageSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	root, err := client.Attach("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := f.handles.Load(); n != 0 {
			t.Errorf("%d handles are left", n)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return root
}

func walk(t *testing.T, f p9.File, names ...string) p9.File {
	t.Helper()
	_, to, err := f.Walk(names)
	if err != nil {
		t.Fatalf("walk to %v: %v", names, err)
	}
	return to
}

// tree is a folder "shared" with something in it, beside a file that is not
// shared.
func tree(t *testing.T) (dir, secret string) {
	t.Helper()
	top := t.TempDir()
	dir, secret = filepath.Join(top, "shared"), filepath.Join(top, "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.MkdirAll(filepath.Join(dir, "sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "file"), []byte("contents"), 0o644),
		os.Symlink("../secret", filepath.Join(dir, "link")),
		os.Symlink("..", filepath.Join(dir, "up")),
		os.Symlink(top, filepath.Join(dir, "absolute")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, secret
}

func want(t *testing.T, what string, err error, errno linux.Errno) {
	t.Helper()
	if !errors.Is(err, errno) {
		t.Errorf("%s: %v; want %v", what, err, errno)
	}
}

func TestReadAndWrite(t *testing.T) {
	dir, _ := tree(t)
	root := mount(t, dir, false)
	f := walk(t, root, "file")
	if _, _, err := f.Open(p9.ReadWrite); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := f.ReadAt(buf, 3); string(buf[:n]) != "tents" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	big := bytes.Repeat([]byte("0123456789"), 50000)
	for at := 0; at < len(big); {
		n, err := f.WriteAt(big[at:min(at+30000, len(big))], int64(at))
		if err != nil {
			t.Fatal(err)
		}
		at += n
	}
	if err := f.FSync(); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "file")); !bytes.Equal(got, big) {
		t.Errorf("the file holds %d bytes; want %d", len(got), len(big))
	}
	f.Close()

	if _, _, _, err := walk(t, root, "sub").Create("new", p9.WriteOnly, 0o666, p9.NoUID, p9.NoGID); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "sub", "new"))
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("made %v, %v; want the guest's permissions", info, err)
	}
}

func TestFolders(t *testing.T) {
	dir, _ := tree(t)
	root := mount(t, dir, false)
	if _, err := root.Mkdir("many", 0o750, p9.NoUID, p9.NoGID); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range 500 {
		name := "a-rather-long-name-for-a-file-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		names = append(names, name)
		if err := os.WriteFile(filepath.Join(dir, "many", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	many := walk(t, root, "many")
	if _, _, err := many.Open(p9.ReadOnly); err != nil {
		t.Fatal(err)
	}
	var got []string
	for offset := uint64(0); ; {
		entries, err := many.Readdir(offset, 2000)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			offset = e.Offset
			if e.Name != "." && e.Name != ".." {
				got = append(got, e.Name)
				if e.Type != 8 { // DT_REG
					t.Errorf("%s has the type %d", e.Name, e.Type)
				}
			}
		}
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("%d entries; want %d", len(got), len(names))
	}
	many.Close()

	want(t, "rmdir of a full folder", root.UnlinkAt("many", 0x200), linux.ENOTEMPTY)
	want(t, "unlink of a folder", root.UnlinkAt("sub", 0), linux.EISDIR)
	if err := root.UnlinkAt("sub", 0x200); err != nil {
		t.Error(err)
	}
	_, err := root.Mkdir("many", 0o755, p9.NoUID, p9.NoGID)
	want(t, "mkdir of what is there", err, linux.EEXIST)
	if err := root.RenameAt("file", walk(t, root, "many"), "renamed"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "many", "renamed")); string(got) != "contents" {
		t.Errorf("the renamed file holds %q", got)
	}
	if err := root.Link(walk(t, root, "many", "renamed"), "again"); err != nil {
		t.Error(err)
	}
	if _, err := root.Symlink("anywhere/at/all", "soft", p9.NoUID, p9.NoGID); err != nil {
		t.Error(err)
	}
	if target, err := walk(t, root, "soft").Readlink(); target != "anywhere/at/all" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if _, err := root.Mknod("pipe", 0o10644, 0, 0, p9.NoUID, p9.NoGID); err != nil {
		t.Error(err)
	}
	_, err = root.Mknod("null", 0o20666, 1, 3, p9.NoUID, p9.NoGID)
	want(t, "a device", err, linux.EPERM)
}

func TestAttributes(t *testing.T) {
	dir, _ := tree(t)
	root := mount(t, dir, false)
	f := walk(t, root, "file")
	when := time.Unix(1_000_000_000, 123)
	if err := f.SetAttr(
		p9.SetAttrMask{Permissions: true, Size: true, MTime: true, MTimeNotSystemTime: true},
		p9.SetAttr{Permissions: 0o4711, Size: 3, MTimeSeconds: uint64(when.Unix()), MTimeNanoSeconds: 123},
	); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "file"))
	if err != nil || info.Size() != 3 || !info.ModTime().Equal(when) || info.Mode() != 0o711 {
		t.Errorf("%v, %v", info, err)
	}
	_, _, a, err := f.GetAttr(p9.AttrMaskAll)
	if err != nil || a.Size != 3 || a.Mode != 0o100711 || a.NLink != 1 {
		t.Errorf("attributes %+v, %v", a, err)
	}
	st, err := root.StatFS()
	if err != nil || st.BlockSize == 0 || st.NameLength < 14 {
		t.Errorf("file system %+v, %v", st, err)
	}
}

// Locks are those of opened files. (The library's client cannot lock.)
func TestLocks(t *testing.T) {
	dir, _ := tree(t)
	folder, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	root, err := folder.Attach()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, g := walk(t, root, "file"), walk(t, root, "file")
	defer f.Close()
	defer g.Close()
	for _, h := range []p9.File{f, g} {
		if _, _, err := h.Open(p9.ReadWrite); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		f    p9.File
		kind p9.LockType
		want p9.LockStatus
	}{
		{f, p9.WriteLock, p9.LockStatusOK},
		{g, p9.ReadLock, p9.LockStatusBlocked},
		{f, p9.Unlock, p9.LockStatusOK},
		{g, p9.ReadLock, p9.LockStatusOK},
		{f, p9.ReadLock, p9.LockStatusOK},
	} {
		if got, err := step.f.Lock(1, step.kind, 0, 0, 0, "guest"); got != step.want {
			t.Errorf("lock %v: %v, %v; want %v", step.kind, got, err, step.want)
		}
	}
}

// No name leads out of the folder.
func TestConfined(t *testing.T) {
	dir, _ := tree(t)
	// Asked of the server's own files: a hostile guest does not go through
	// the checks of a client.
	f, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := f.Attach()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"..", ".", "", "/etc", "sub/../..", "sub/x", "a\x00b"} {
		_, _, err := root.Walk([]string{name})
		want(t, "walk to "+name, err, linux.EINVAL)
		_, err = root.Mkdir(name, 0o755, 0, 0)
		want(t, "mkdir "+name, err, linux.EINVAL)
		_, _, _, err = root.Create(name, p9.ReadWrite, 0o644, 0, 0)
		want(t, "create "+name, err, linux.EINVAL)
		_, err = root.Symlink("x", name, 0, 0)
		want(t, "symlink "+name, err, linux.EINVAL)
		want(t, "unlink "+name, root.UnlinkAt(name, 0), linux.EINVAL)
		want(t, "rename "+name, root.RenameAt(name, root, "x"), linux.EINVAL)
		want(t, "rename to "+name, root.RenameAt("file", root, name), linux.EINVAL)
		want(t, "link "+name, root.Link(root, name), linux.EINVAL)
	}
	for _, link := range []string{"link", "up", "absolute"} {
		_, to, err := root.Walk([]string{link})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = to.Open(p9.ReadOnly)
		want(t, "open of "+link, err, linux.EPERM)
		if _, _, err := to.Walk([]string{"secret"}); err == nil {
			t.Errorf("walk through %s", link)
		}
		want(t, "truncation of "+link, to.SetAttr(p9.SetAttrMask{Size: true}, p9.SetAttr{}), linux.EPERM)
		_ = to.SetAttr(p9.SetAttrMask{Permissions: true}, p9.SetAttr{Permissions: 0o777})
		to.Close()
		_, _, _, err = root.Create(link, p9.ReadWrite, 0o644, 0, 0)
		want(t, "create over "+link, err, linux.EPERM)
	}
	info, err := os.Stat(filepath.Join(filepath.Dir(dir), "secret"))
	if err != nil || info.Size() != 6 || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret is %v, %v", info, err)
	}
}

func TestReadOnly(t *testing.T) {
	dir, _ := tree(t)
	root := mount(t, dir, true)
	f := walk(t, root, "file")
	_, _, err := f.Open(p9.ReadWrite)
	want(t, "open for writing", err, linux.EROFS)
	_, _, err = f.Open(p9.ReadOnly | 0o1000)
	want(t, "truncation by opening", err, linux.EROFS)
	if _, _, err := f.Open(p9.ReadOnly); err != nil {
		t.Error(err)
	}
	want(t, "chmod", f.SetAttr(p9.SetAttrMask{Permissions: true}, p9.SetAttr{Permissions: 0o777}), linux.EROFS)
	want(t, "unlink", root.UnlinkAt("file", 0), linux.EROFS)
	want(t, "rename", root.RenameAt("file", root, "x"), linux.EROFS)
	want(t, "link", root.Link(walk(t, root, "file"), "x"), linux.EROFS)
	_, err = root.Mkdir("x", 0o755, p9.NoUID, p9.NoGID)
	want(t, "mkdir", err, linux.EROFS)
	_, err = root.Symlink("x", "x", p9.NoUID, p9.NoGID)
	want(t, "symlink", err, linux.EROFS)
	_, _, _, err = walk(t, root, "sub").Create("x", p9.ReadWrite, 0o644, p9.NoUID, p9.NoGID)
	want(t, "create", err, linux.EROFS)
}

// A guest that holds more files than its share of the host's is told.
func TestTooManyHandles(t *testing.T) {
	dir, _ := tree(t)
	f, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.limit = 10
	var held []p9.File
	for {
		h, err := f.Attach()
		if err != nil {
			want(t, "one too many", err, linux.EMFILE)
			break
		}
		held = append(held, h)
	}
	if len(held) != 10 {
		t.Errorf("%d handles", len(held))
	}
	for _, h := range held {
		h.Close()
	}
	if h, err := f.Attach(); err != nil {
		t.Error(err)
	} else {
		h.Close()
	}
}

func TestOpenErrors(t *testing.T) {
	dir, secret := tree(t)
	for _, path := range []string{secret, filepath.Join(dir, "none")} {
		if f, err := Open(path, false); err == nil {
			f.Close()
			t.Errorf("%s is shared", path)
		}
	}
}
