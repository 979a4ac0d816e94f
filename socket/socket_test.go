package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "listens there already") {
		t.Errorf("twice: %v", err)
	}
	// As after a vmm that was killed.
	first.SetUnlinkOnClose(false)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left behind")
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file holds %q now", got)
	}
	if _, err := Listen(dir + "/none/x"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "at most 107 bytes") {
		t.Errorf("a path that is too long: %v", err)
	}
}

// TestMode looks at the socket under masks that would let others in, or nobody.
func TestMode(t *testing.T) {
	for _, mask := range []int{0, 0o002, 0o022, 0o077} {
		path := filepath.Join(t.TempDir(), "socket")
		old := unix.Umask(mask)
		l, err := Listen(path)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("umask %03o: the socket has mode %03o; want 600", mask, got)
		}
	}
}

// TestModeFromTheStart watches a folder for as long as a socket is made there
// again and again: no look at it finds another mode.
func TestModeFromTheStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	defer unix.Umask(unix.Umask(0))
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if info, err := os.Stat(path); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("the socket had mode %03o", info.Mode().Perm())
				return
			}
		}
	}()
	for range 500 {
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(stop)
	<-done
}

// TestPeer has another user connect, whom the mode of the socket lets through.
func TestPeer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root: another user is to connect")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("/tmp", "socket") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan uint32, 2)
	go Accept(l, func(c net.Conn) {
		defer c.Close()
		uid, _ := peer(c.(*net.UnixConn))
		accepted <- uid
	})

	// The credentials are those of the thread that connects.
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and nobody with it
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
			result <- errno
			return
		}
		result <- dialAndRead(path)
	}()
	if err := <-result; !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("another user: %v; want the connection closed", err)
	}
	if err := dialAndRead(path); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if uid := <-accepted; uid != 0 {
		t.Errorf("a connection of user %d was accepted", uid)
	}
}

// dialAndRead connects with system calls of its own thread, and reads until the
// other end closes.
func dialAndRead(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	n, err := unix.Read(fd, make([]byte, 1))
	if n == 0 && err == nil {
		err = io.EOF
	}
	return err
}
