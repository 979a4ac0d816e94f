// Package caged tries what stands behind devices in the sandbox of a machine that has
// them: each system call that it needs has to be in the list.
package caged

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/broker"
	"vmm/disk"
	"vmm/memory"
	"vmm/netdev"
	"vmm/sandbox"
	"vmm/share"
	"vmm/socket"
	"vmm/tools/toolstest"
)

// TestMain is also the process in the sandbox: with TEST_CAGED, what it tries, in its
// environment, and a folder as argument.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == broker.Command {
		if err := serveBroker(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	try := tries[os.Getenv("TEST_CAGED")]
	if try == nil {
		os.Exit(toolstest.Run(m.Run))
	}
	if err := try(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

var tries = map[string]func(dir string) error{
	"disk":             func(dir string) error { return tryDisk(dir, disk.Config{}) },
	"disk, cache=none": func(dir string) error { return tryDisk(dir, disk.Config{Direct: true}) },
	"share":            tryShare,
	"vsock":            tryVsock,
	"user network":     tryUserNetwork,
	"tap":              tryTap,
}

func TestDevices(t *testing.T) {
	if missing := sandbox.Missing(); missing != nil {
		t.Skip(missing)
	}
	for name := range tries {
		t.Run(name, func(t *testing.T) {
			// Not in /tmp, which may be a file system that cannot bypass the cache.
			dir, err := os.MkdirTemp(".", "testdata-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			cmd := exec.Command("/proc/self/exe", dir)
			cmd.Env = append(os.Environ(), "TEST_CAGED="+name)
			if name == "tap" {
				if os.Getuid() != 0 {
					t.Skip("a network namespace takes root")
				}
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if _, err := os.Lstat(filepath.Join(dir, "s_7")); err == nil {
				t.Error("a socket is still there")
			}
		})
	}
}

func enter(n sandbox.Needs) error {
	n.Groups |= sandbox.Machine
	_, err := sandbox.Enter(sandbox.Strict, n)
	return err
}

// tryDisk does all that can be done with an image, in whole blocks and in parts.
func tryDisk(dir string, c disk.Config) error {
	c.Path, c.Format = filepath.Join(dir, "disk"), disk.FormatRaw
	if err := os.WriteFile(c.Path, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	image, err := disk.Open(c)
	if err != nil {
		return err
	}
	buffer, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	if err := enter(sandbox.Needs{Groups: sandbox.Disk}); err != nil {
		return err
	}
	for _, size := range []int{512, 4096, 64 << 10} {
		for _, wait := range []bool{false, true} {
			for _, sync := range []bool{false, true} {
				var v memory.Vector
				v.Set([][]byte{buffer[:size]})
				if err := image.Write(&v, int64(size), sync, wait); err != nil && (wait || err != unix.EAGAIN) {
					return fmt.Errorf("write %d: %w", size, err)
				}
				v.Set([][]byte{buffer[:size]})
				if err := image.Read(&v, int64(size), wait); err != nil && (wait || err != unix.EAGAIN) {
					return fmt.Errorf("read %d: %w", size, err)
				}
			}
		}
	}
	return errors.Join(image.Flush(), image.Discard(0, 8192), image.Zero(8192, 8192, true), image.Zero(8192+512, 4096, false), image.Flush(), image.Close())
}

// serveBroker is the broker, in its sandbox.
func serveBroker(path string) error {
	ready := os.NewFile(broker.ReadyFD, "ready")
	if _, err := sandbox.Enter(sandbox.Strict, sandbox.Needs{Groups: sandbox.Dial}); err != nil {
		return err
	}
	if _, err := ready.WriteString(broker.Ready); err != nil {
		return err
	}
	ready.Close()
	return broker.Serve(broker.LineFD, path)
}

// tryVsock has the broker connect, and takes a connection at a socket.
func tryVsock(dir string) error {
	path := filepath.Join(dir, "s")
	b, err := broker.Start(path)
	if err != nil {
		return err
	}
	own, err := socket.Listen(path + "_7") // that of vmm is made in the same way
	if err != nil {
		return err
	}
	if err := enter(sandbox.Needs{Groups: sandbox.Serve | sandbox.Remove | sandbox.Broker, Removes: []string{dir}}); err != nil {
		return err
	}
	near, err := b.Dial(7)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	far, err := own.AcceptUnix()
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	t := &trying{}
	t.try("write", second(near.Write([]byte("hello"))))
	t.try("shutdown", near.CloseWrite())
	text, err := io.ReadAll(far)
	t.try("read", err)
	if string(text) != "hello" {
		t.try("read", fmt.Errorf("%q", text))
	}
	if _, err := b.Dial(8); err != unix.ENOENT {
		t.try("dial where nobody is", fmt.Errorf("%w instead of %w", err, unix.ENOENT))
	}
	t.try("close", errors.Join(near.Close(), far.Close(), own.Close(), b.Close()))
	return t.err
}

// tryUserNetwork sends a frame into a network, which nobody there is for, and ends it.
func tryUserNetwork(string) error {
	u, err := netdev.NewUser(netdev.UserConfig{Sandbox: sandbox.Strict})
	if err != nil {
		return err
	}
	if err := enter(sandbox.Needs{Groups: sandbox.UserNetwork}); err != nil {
		return err
	}
	return errors.Join(tryPort(u), u.Close())
}

// tryTap does the same with a tap, and chooses its queues and offloads.
func tryTap(string) error {
	tap, err := netdev.OpenTap("caged0", 2, true)
	if err != nil {
		return err
	}
	if err := enter(sandbox.Needs{Groups: sandbox.Tap}); err != nil {
		return err
	}
	return errors.Join(tap.SetQueues(1), tap.SetQueues(2), tap.SetOffload(unix.TUN_F_CSUM), tryPort(tap), tap.Close())
}

// tryPort does what a network device does.
func tryPort(p interface {
	FDs() []int
	SetOffload(int) error
}) error {
	frame := make([]byte, netdev.HeaderSize+60)
	var v memory.Vector
	v.Set([][]byte{frame[:netdev.HeaderSize], frame[netdev.HeaderSize:]})
	_, err := v.Writev(p.FDs()[0])
	if err == unix.EIO { // of an interface that is down
		err = nil
	}
	v.Set([][]byte{frame})
	if _, readErr := v.Readv(p.FDs()[0]); readErr != nil && readErr != unix.EAGAIN {
		err = errors.Join(err, readErr)
	}
	return errors.Join(err, p.SetOffload(0))
}

// tryShare does all that can be done with a folder.
func tryShare(dir string) error {
	folder, err := share.Open(dir, false, share.NewBudget())
	if err != nil {
		return err
	}
	root, err := folder.Root()
	if err != nil {
		return err
	}
	owner := share.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if err := enter(sandbox.Needs{Groups: sandbox.Share, Folders: []sandbox.Folder{{Path: dir}}}); err != nil {
		return err
	}
	t := &trying{}
	t.try("mkdir", second(root.Mkdir("dir", 0o700, owner)))
	sub, _, err := root.Lookup("dir")
	t.try("lookup", err)
	f, _, err := root.Create("file", unix.O_RDWR, 0o640, owner)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	text := [][]byte{[]byte("hello"), []byte("you")}
	t.try("write", second(f.WriteAt(text, 0)))
	t.try("read", second(f.ReadAt(text, 0)))
	t.try("sync", errors.Join(f.Sync(false), f.Sync(true)))
	lock := share.Lock{Type: unix.F_WRLCK}
	t.try("lock", errors.Join(f.SetLock(lock), second(f.GetLock(lock))))
	mode, size, now := uint32(0o600), int64(100), unix.Timespec{Nsec: unix.UTIME_NOW}
	all := share.Attributes{UID: &owner.UID, GID: &owner.GID, Mode: &mode, Size: &size, ATime: &now, MTime: &now}
	t.try("attributes", errors.Join(f.SetAttributes(all), f.SetAttributes(share.Attributes{Touch: true})))
	node, _, err := root.Lookup("file")
	if err != nil {
		return fmt.Errorf("lookup: %w", err)
	}
	t.try("attributes by name", node.SetAttributes(all))
	t.try("extended attributes", errors.Join(node.SetAttribute("user.a", []byte("b"), 0), second(node.Attribute("user.a")), second(node.AttributeNames()), node.RemoveAttribute("user.a")))
	t.try("stat", errors.Join(second(node.Stat()), second(node.StatFS())))
	t.try("link", sub.Link(node, "hard"))
	t.try("symlink", second(root.Symlink("file", "soft", owner)))
	soft, _, err := root.Lookup("soft")
	if err != nil {
		return fmt.Errorf("lookup: %w", err)
	}
	t.try("readlink", second(soft.ReadLink()))
	t.try("pipe", second(root.Mknod("pipe", unix.S_IFIFO|0o600, owner)))
	t.try("socket", second(root.Mknod("socket", unix.S_IFSOCK|0o600, owner)))
	clone, err := node.Clone()
	t.try("clone", err)
	open, _, err := clone.Open(unix.O_WRONLY | unix.O_TRUNC | unix.O_APPEND)
	t.try("open", err)
	again, err := open.Clone()
	t.try("clone of what is open", err)
	entries, _, err := root.Open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	names := 0
	t.try("read folder", entries.ReadDirectory(0, make([]byte, 4096), func(share.Entry) bool { names++; return true }))
	if names < 6 {
		t.try("names", fmt.Errorf("%d of them", names))
	}
	t.try("rename to another folder", root.Rename("file", sub, "moved"))
	t.try("unlink", errors.Join(sub.Unlink("moved", 0), sub.Unlink("hard", 0), root.Unlink("pipe", 0), root.Unlink("socket", 0), root.Unlink("soft", 0)))
	t.try("rmdir", root.Unlink("dir", unix.AT_REMOVEDIR))
	for _, c := range []interface{ Close() error }{entries, again, open, clone, soft, node, f, sub, root, folder} {
		t.try("close", c.Close())
	}
	return t.err
}

// trying keeps what has gone wrong.
type trying struct{ err error }

func (t *trying) try(what string, err error) {
	if err != nil {
		t.err = errors.Join(t.err, fmt.Errorf("%s: %w", what, err))
	}
}

func second[T any](_ T, err error) error { return err }
