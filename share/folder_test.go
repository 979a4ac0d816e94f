package share

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenErrors(t *testing.T) {
	b := NewBudget()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, path + "-none", "/proc", "/proc/self", "/sys"} {
		if f, err := Open(path, false, b); err == nil {
			f.Close()
			t.Errorf("%s is shared", path)
		}
	}
	if n := b.Descriptors(); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
}

// All folders of a machine share one budget: a guest that holds more files is told,
// whatever it does with them.
func TestDescriptorLimit(t *testing.T) {
	const limit = 20
	b := newBudget(limit, 0, 0, 1)
	one, two := folder(t, t.TempDir(), false, b), folder(t, t.TempDir(), false, b)
	before := openDescriptors(t)
	var all []interface{ Close() error }
	fill := func(f *Folder) {
		for {
			n, _, err := f.root.Lookup("file")
			if err != nil {
				if err != unix.EMFILE {
					t.Errorf("one too many: %v", err)
				}
				return
			}
			all = append(all, n)
			opened, _, err := n.Open(unix.O_RDONLY)
			if err == unix.EMFILE {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, opened)
		}
	}
	fill(one)
	fill(two)
	// The folders themselves are two.
	if len(all) != limit-2 || openDescriptors(t)-before != limit-2 {
		t.Errorf("%d are held, %d open; want %d", len(all), openDescriptors(t)-before, limit-2)
	}
	for _, err := range []error{
		func() error { _, err := one.Root(); return err }(),
		func() error {
			_, _, err := one.root.Create("new", unix.O_RDWR, 0o6755, Owner{})
			return err
		}(),
	} {
		if err != unix.EMFILE {
			t.Errorf("%v; want EMFILE", err)
		}
	}
	if n := openDescriptors(t) - before; n != limit-2 {
		t.Errorf("%d descriptors are open; want %d", n, limit-2)
	}
	for _, c := range all {
		c.Close()
	}
	n, _, err := two.root.Lookup("file")
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

const mountTest = "VMM_SHARE_MOUNTS"

// What is mounted below a folder belongs to it, the kernel's own file systems do
// not. The test runs once more, in a mount namespace of its own.
func TestMountPoints(t *testing.T) {
	if os.Getenv(mountTest) != "" {
		testMountPoints(t)
		return
	}
	c := exec.Command("/proc/self/exe", "-test.run", "^TestMountPoints$", "-test.v")
	c.Env = append(os.Environ(), mountTest+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func testMountPoints(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"volume", "proc", "bound", "over"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "given"), []byte("too"), 0o644); err != nil {
		t.Fatal(err)
	}
	mount := func(from, name, kind string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(from, filepath.Join(dir, name), kind, flags, ""); err != nil {
			t.Fatalf("mount %s on %s: %v", kind, name, err)
		}
		t.Cleanup(func() { unix.Unmount(filepath.Join(dir, name), unix.MNT_DETACH) })
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	mount("none", "volume", "tmpfs", 0)
	mount("proc", "proc", "proc", 0)
	mount(outside, "bound", "", unix.MS_BIND)
	f := folder(t, dir, false, NewBudget())
	look := func(name string) (*Node, *unix.Stat_t) {
		t.Helper()
		n, st, err := f.root.Lookup(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { n.Close() })
		return n, st
	}

	volume, _ := look("volume")
	made, st, err := volume.Create("file", unix.O_RDWR, 0o644, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	if made.ID(st.Ino) == f.root.ID(st.Ino) {
		t.Error("files of two file systems have one number")
	}
	bound, _ := look("bound")
	given, _, err := bound.Lookup("given")
	if err != nil {
		t.Fatal(err)
	}
	given.Close()
	if _, _, err := f.root.Lookup("proc"); err != unix.EACCES {
		t.Errorf("proc: %v; want EACCES", err)
	}
	for what, want := range map[string]struct{ err, want error }{
		"rename to another file system": {volume.Rename("file", f.root, "file2"), unix.EXDEV},
		"link to another file system":   {f.root.Link(made.Node, "file2"), unix.EXDEV},
		"rename over a mount point":     {f.root.Rename("over", f.root, "volume"), unix.EBUSY},
		"rename of a mount point":       {f.root.Rename("volume", f.root, "over"), unix.EBUSY},
		"removal of a mount point":      {f.root.Unlink("volume", unix.AT_REMOVEDIR), unix.EBUSY},
	} {
		if want.err != want.want {
			t.Errorf("%s: %v; want %v", what, want.err, want.want)
		}
	}
}
