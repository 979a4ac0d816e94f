// Package shares has what programs expect of a file system, as tests that need
// nothing but a folder: a temporary one of the host's, which shows that the tests
// are right, or a shared one in a guest (VMM_SHARE), which is what they are for.
package shares

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// work makes an empty folder the current one, where a test's names are.
func work(t *testing.T) {
	t.Helper()
	parent := os.Getenv("VMM_SHARE")
	if parent == "" {
		parent = t.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

func stat(t *testing.T, name string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(name, &st))
	return st
}

func create(name string) error { return os.WriteFile(name, []byte(name), 0o644) }

// What is refused, and how. 0 stands for what is not.
func TestErrors(t *testing.T) {
	work(t)
	must(t, create("file"), os.MkdirAll("dir/sub", 0o755), os.Mkdir("empty", 0o755), os.Mkdir("empty2", 0o755),
		os.Symlink("file", "link"), os.Symlink("loop", "loop"), os.Symlink("none", "dangling"), create("dir/inside"))
	open := func(name string, flags int) error {
		fd, err := unix.Open(name, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	long, longer := strings.Repeat("n", 255), strings.Repeat("n", 256)
	for _, c := range []struct {
		what string
		got  error
		want unix.Errno
	}{
		{"open nothing", open("none", unix.O_RDONLY), unix.ENOENT},
		{"create in nothing", open("none/x", unix.O_CREAT), unix.ENOENT},
		{"create in a file", open("file/x", unix.O_CREAT), unix.ENOTDIR},
		{"create what is there", open("file", unix.O_CREAT|unix.O_EXCL), unix.EEXIST},
		{"create over a dangling link", open("dangling", unix.O_CREAT|unix.O_EXCL), unix.EEXIST},
		{"open a link", open("link", unix.O_NOFOLLOW), unix.ELOOP},
		{"open a loop", open("loop", unix.O_RDONLY), unix.ELOOP},
		{"write to a folder", open("dir", unix.O_WRONLY), unix.EISDIR},
		{"open a file as a folder", open("file", unix.O_DIRECTORY), unix.ENOTDIR},
		{"a name of 255 bytes", open(long, unix.O_CREAT), 0},
		{"a name of 256 bytes", open(longer, unix.O_CREAT), unix.ENAMETOOLONG},
		{"mkdir what is there", unix.Mkdir("file", 0o755), unix.EEXIST},
		{"mkdir where a link is", unix.Mkdir("dangling", 0o755), unix.EEXIST},
		{"mkdir of 256 bytes", unix.Mkdir(longer, 0o755), unix.ENAMETOOLONG},
		{"rmdir a file", unix.Rmdir("file"), unix.ENOTDIR},
		{"rmdir a full folder", unix.Rmdir("dir"), unix.ENOTEMPTY},
		{"rmdir nothing", unix.Rmdir("none"), unix.ENOENT},
		{"unlink a folder", unix.Unlink("dir"), unix.EISDIR},
		{"unlink nothing", unix.Unlink("none"), unix.ENOENT},
		{"link over what is there", unix.Link("file", "dir"), unix.EEXIST},
		{"link to a folder", unix.Link("dir", "dir2"), unix.EPERM},
		{"link to nothing", unix.Link("none", "x"), unix.ENOENT},
		{"symlink over what is there", unix.Symlink("x", "file"), unix.EEXIST},
		{"readlink of a file", readlink("file"), unix.EINVAL},
		{"rename nothing", unix.Rename("none", "x"), unix.ENOENT},
		{"rename a file over a folder", unix.Rename("file", "empty"), unix.EISDIR},
		{"rename a folder over a file", unix.Rename("empty", "file"), unix.ENOTDIR},
		{"rename a folder over a full one", unix.Rename("empty", "dir"), unix.ENOTEMPTY},
		{"rename a folder into itself", unix.Rename("dir", "dir/sub/x"), unix.EINVAL},
		{"rename a folder over an empty one", unix.Rename("empty", "empty2"), 0},
		{"rename to itself", unix.Rename("file", "file"), 0},
		{"truncate a folder", unix.Truncate("dir", 0), unix.EISDIR},
		{"truncate to less than nothing", unix.Truncate("file", -1), unix.EINVAL},
	} {
		if !errors.Is(c.got, c.want) && !(c.want == 0 && c.got == nil) {
			t.Errorf("%s: %v; want %v", c.what, c.got, c.want)
		}
	}
}

func readlink(name string) error {
	_, err := unix.Readlink(name, make([]byte, 100))
	return err
}

// What operations leave behind.
func TestEffects(t *testing.T) {
	work(t)
	must(t, create("a"), os.Link("a", "b"), os.Mkdir("dir", 0o755), os.Mkdir("dir/sub", 0o755))
	if st := stat(t, "a"); st.Nlink != 2 || st.Ino != stat(t, "b").Ino || st.Size != 1 {
		t.Errorf("a file with two names: %+v", st)
	}
	before := stat(t, "a")
	time.Sleep(20 * time.Millisecond) // the clock of the file system ticks
	must(t, os.Remove("b"))
	if st := stat(t, "a"); st.Nlink != 1 || st.Ctim == before.Ctim || st.Mtim != before.Mtim {
		t.Errorf("after one of its names has gone: %+v; before %+v", st, before)
	}
	for _, mode := range []uint32{0, 0o400, 0o644, 0o755, 0o1777} {
		must(t, unix.Chmod("a", mode))
		if st := stat(t, "a"); st.Mode != unix.S_IFREG|mode {
			t.Errorf("chmod to %#o: %#o", mode, st.Mode)
		}
	}
	old := unix.Umask(0o027)
	must(t, unix.Mkdir("masked", 0o777), unix.Mkfifo("pipe", 0o666))
	unix.Umask(old)
	if dir, pipe := stat(t, "masked").Mode, stat(t, "pipe").Mode; dir != unix.S_IFDIR|0o750 || pipe != unix.S_IFIFO|0o640 {
		t.Errorf("with a umask of 027: %#o, %#o", dir, pipe)
	}
	// Linux's client for 9P sets times in whole seconds.
	times := []unix.Timespec{{Sec: 1_000_000_000}, {Sec: 2_000_000_000}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, "a", times, 0))
	if st := stat(t, "a"); st.Atim != times[0] || st.Mtim != times[1] {
		t.Errorf("times %v, %v; want %v", st.Atim, st.Mtim, times)
	}
	must(t, unix.Truncate("a", 1<<20))
	if b, err := os.ReadFile("a"); err != nil || !bytes.Equal(b[1:], make([]byte, 1<<20-1)) {
		t.Errorf("a file that was made longer: %d bytes, %v", len(b), err)
	}
	must(t, os.Symlink("a", "link"), os.Rename("dir/sub", "moved"))
	if target, err := os.Readlink("link"); target != "a" || err != nil {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	l, err := net.Listen("unix", "socket")
	must(t, err, l.Close())
	for i := range 700 {
		must(t, create(fmt.Sprintf("dir/%d", i)))
	}
	if all, err := os.ReadDir("dir"); len(all) != 700 || err != nil {
		t.Errorf("a folder of %d entries, %v", len(all), err)
	}
}

// The file system below has to have them: a tmpfs of before Linux 6.6 has none.
func TestExtendedAttributes(t *testing.T) {
	work(t)
	must(t, create("file"), os.Symlink("file", "link"))
	err := unix.Setxattr("file", "user.key", []byte("value"), 0)
	if err == unix.EOPNOTSUPP {
		t.Skip("the folder's file system has none")
	}
	must(t, err)
	buf := make([]byte, 100)
	if n, err := unix.Getxattr("link", "user.key", buf); err != nil || string(buf[:n]) != "value" {
		t.Errorf("through a link: %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Listxattr("file", buf); err != nil || !strings.Contains(string(buf[:n]), "user.key") {
		t.Errorf("the list is %q, %v", buf[:max(n, 0)], err)
	}
	must(t, unix.Removexattr("file", "user.key"))
	for what, err := range map[string]error{
		"removal":     unix.Removexattr("file", "user.key"),
		"replacement": unix.Setxattr("file", "user.key", []byte("x"), unix.XATTR_REPLACE),
	} {
		if err != unix.ENODATA {
			t.Errorf("%s of one that is not there: %v", what, err)
		}
	}
}

// An open file is itself, whatever becomes of its name and its permissions.
func TestOpenFiles(t *testing.T) {
	for name, lose := range map[string]func() error{
		"unlink":  func() error { return os.Remove("file") },
		"rename":  func() error { return os.Rename("file", "other") },
		"replace": func() error { return errors.Join(create("new"), os.Rename("new", "file")) },
		"chmod":   func() error { return os.Chmod("file", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			work(t)
			must(t, create("file"))
			f, err := os.OpenFile("file", os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			must(t, lose(), f.Truncate(2), f.Chmod(0o600), f.Chown(os.Getuid(), os.Getgid()), f.Sync(),
				unix.Futimes(int(f.Fd()), []unix.Timeval{{Sec: 5}, {Sec: 6}}))
			_, err = f.WriteAt([]byte("LE"), 2)
			must(t, err)
			var st unix.Stat_t
			must(t, unix.Fstat(int(f.Fd()), &st))
			b := make([]byte, 10)
			if n, _ := f.ReadAt(b, 0); string(b[:n]) != "fiLE" || st.Mode&0o777 != 0o600 || st.Size != 4 {
				t.Errorf("it holds %q, with mode %#o and %d bytes", b[:n], st.Mode, st.Size)
			}
		})
	}
}

// Random reads, writes and changes of size, by several descriptors, beside a model.
func TestRandom(t *testing.T) {
	work(t)
	random := rand.New(rand.NewPCG(1, 2))
	const most = 200_000
	var model []byte
	files := make([]*os.File, 3)
	open := func(i int) {
		var err error
		if files[i] != nil {
			must(t, files[i].Close())
		}
		files[i], err = os.OpenFile("file", os.O_RDWR|os.O_CREATE, 0o644)
		must(t, err)
	}
	for i := range files {
		open(i)
		defer func() { files[i].Close() }()
	}
	grow := func(size int) {
		if size > len(model) {
			model = append(model, make([]byte, size-len(model))...)
		}
	}
	for step := range 1500 {
		f := files[random.IntN(len(files))]
		at, n := random.IntN(most), random.IntN(70_000)
		switch random.IntN(8) {
		case 0, 1, 2:
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(step + i)
			}
			_, err := f.WriteAt(data, int64(at))
			must(t, err)
			if n > 0 {
				grow(at + n)
			}
			copy(model[min(at, len(model)):], data)
		case 3, 4, 5:
			got := make([]byte, n)
			k, _ := f.ReadAt(got, int64(at))
			want := model[min(at, len(model)):min(at+n, len(model))]
			if !bytes.Equal(got[:k], want) {
				t.Fatalf("step %d: %d bytes read at %d of %d differ from %d written", step, k, at, len(model), len(want))
			}
		case 6:
			must(t, f.Truncate(int64(at)))
			grow(at)
			model = model[:at]
		case 7:
			open(random.IntN(len(files)))
		}
		if st := stat(t, "file"); int(st.Size) != len(model) {
			t.Fatalf("step %d: a size of %d; want %d", step, st.Size, len(model))
		}
	}
	if got, err := os.ReadFile("file"); err != nil || !bytes.Equal(got, model) {
		t.Errorf("at the end: %v, %s", err, filepath.Base(t.Name()))
	}
}

// A lock of one opened file keeps another from it.
func TestLocks(t *testing.T) {
	work(t)
	must(t, create("file"))
	one, err := os.OpenFile("file", os.O_RDWR, 0)
	must(t, err)
	defer one.Close()
	two, err := os.OpenFile("file", os.O_RDONLY, 0)
	must(t, err)
	defer two.Close()
	must(t, unix.Flock(int(one.Fd()), unix.LOCK_EX))
	if err := unix.Flock(int(two.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("beside an exclusive lock: %v", err)
	}
	must(t, unix.Flock(int(one.Fd()), unix.LOCK_UN), unix.Flock(int(two.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	if err := unix.Flock(int(one.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("beside a lock of a file that is open for reading: %v", err)
	}
}
