package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// setUp makes the guest what its specification says, but for its program.
func setUp(spec *protocol.Spec) error {
	if spec.Root != "" {
		if err := enterRoot(spec.Root); err != nil {
			return fmt.Errorf("the image's files: %w", err)
		}
	}
	if err := mountSystem(); err != nil {
		return err
	}
	if spec.Root == "" {
		// The program is to see the image's files and no others.
		if err := os.RemoveAll("/" + protocol.Folder); err != nil {
			return err
		}
	}
	for _, m := range spec.Mounts {
		if err := mountShare(m); err != nil {
			return fmt.Errorf("the folder at %s: %w", m.Target, err)
		}
	}
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("the host name %q: %w", spec.Hostname, err)
		}
		if err := writeFile("/etc/hostname", spec.Hostname+"\n"); err != nil {
			return err
		}
	}
	if err := setUpNetwork(spec); err != nil {
		return fmt.Errorf("the network: %w", err)
	}
	if spec.Process.Dir != "" {
		return os.MkdirAll(spec.Process.Dir, 0o755)
	}
	return nil
}

// deviceFor is how long a device may take to appear.
const deviceFor = 10 * time.Second

// await waits until something is there. The kernel says when a device appears, but
// to whom listens from before: it is there already unless its driver is a module
// that was loaded just now.
func await(name string) error {
	for end := time.Now().Add(deviceFor); ; time.Sleep(time.Millisecond) {
		_, err := os.Stat(name)
		if err == nil || !errors.Is(err, os.ErrNotExist) || time.Now().After(end) {
			return err
		}
	}
}

// enterRoot makes the file system on a device the root, read-only below, with a
// layer in memory that takes what is written.
func enterRoot(device string) error {
	const lower, memory, root = "/" + protocol.Folder + "/lower", "/" + protocol.Folder + "/memory", "/" + protocol.Folder + "/root"
	const upper, work = memory + "/upper", memory + "/work"
	if err := mount("dev", "/dev", "devtmpfs", unix.MS_NOSUID, ""); err != nil {
		return err
	}
	if err := await(device); err != nil {
		return err
	}
	if err := mount(device, lower, "erofs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := mount("memory", memory, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	// The root's own owner and rights are those of the layer above.
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755), unix.Chown(upper, int(st.Uid), int(st.Gid)), unix.Chmod(upper, st.Mode&0o7777)); err != nil {
		return err
	}
	if err := mount("overlay", root, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		return err
	}
	// The initial RAM disk cannot be left with pivot_root(2), but it can be covered.
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move it to the root: %w", err)
	}
	return errors.Join(unix.Chroot("."), os.Chdir("/"))
}

// mount mounts a file system on a folder, which it makes.
func mount(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s (%s): %w", target, kind, err)
	}
	return nil
}

// mountSystem mounts what a container has, as far as the kernel can. OCI Runtime
// Specification, Linux: Default Filesystems.
func mountSystem() error {
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		target, kind string
		flags        uintptr
		data         string
	}{
		{"/proc", "proc", plain, ""},
		{"/sys", "sysfs", plain | unix.MS_RDONLY, ""},
		{"/sys/fs/cgroup", "cgroup2", plain, ""},
		{"/dev", "tmpfs", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=0755"},
		{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"/dev/shm", "tmpfs", plain, "mode=1777"},
		{"/dev/mqueue", "mqueue", plain, ""},
	} {
		err := mount(m.kind, m.target, m.kind, m.flags, m.data)
		switch {
		case err == nil, errors.Is(err, unix.ENODEV): // a kernel without it
		case m.kind == "cgroup2": // in a /sys that is not there
		default:
			return err
		}
	}
	return makeDevices()
}

// makeDevices makes what a container has in /dev. OCI Runtime Specification, Linux:
// Default Devices; the symbolic links are those of its section for /dev.
func makeDevices() error {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		if err := unix.Mknod("/dev/"+d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("/dev/%s: %w", d.name, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}

// mountShare mounts a folder of the host's.
func mountShare(m protocol.Mount) error {
	flags := uintptr(0)
	if m.ReadOnly {
		flags = unix.MS_RDONLY
	}
	return mount(m.Tag, m.Target, "9p", flags, "trans=virtio,version=9p2000.L,msize=512000,cache=mmap")
}

// writeFile puts a file of the guest's own in the place of one of the image's, which
// may be a link.
func writeFile(name, text string) error {
	if err := os.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// loadModules loads the kernel's modules that a folder holds, if it is there: those
// that its file "order" lists. It goes on after one that does not load.
func loadModules(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range strings.Fields(string(order)) {
		errs = append(errs, loadModule(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}
