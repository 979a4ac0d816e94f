package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/disk"
	"vmm/machine"
	"vmm/sandbox"
	"vmm/trace"
)

// hostility is what a thread of vmm does once a guest controls it.
type hostility struct {
	Attack string
	VCPU   bool   // the thread is a vCPU's, in the middle of an exit; otherwise a worker's, from before the cage
	Shares bool   // the machine has a shared folder, and one for reading: files may be opened
	Dir    string // where things lie
}

// hostile is a vmm one of whose threads turns hostile.
func hostile() {
	var h hostility
	if err := json.Unmarshal([]byte(os.Args[1]), &h); err != nil {
		panic(err)
	}
	attack := func() {
		err := attacks[h.Attack](h.Dir)
		fmt.Fprintf(os.Stderr, "attack: %v\n", err)
		os.Exit(5)
	}
	f := &bootFlags{kernel: filepath.Join(h.Dir, "hello"), memory: 64 << 20, cpus: 1, sandbox: sandbox.Strict, noCache: true}
	f.trace.format, f.timing.rate = trace.Text, 1
	f.disks = []machine.Disk{{Config: disk.Config{Path: filepath.Join(h.Dir, "disk"), Format: disk.FormatRaw, ReadOnly: true}}}
	if h.Shares {
		f.shares = []machine.Share{{Path: filepath.Join(h.Dir, "share"), Tag: "a"}, {Path: filepath.Join(h.Dir, "shown"), Tag: "b", ReadOnly: true}}
	}
	s := &session{
		flags: f, end: newEnding(false, false), config: func() (machine.Config, error) { return f.config(false) },
	}
	turn := make(chan struct{})
	go func() { // a worker, on a thread that is there before the cage
		runtime.LockOSThread()
		<-turn
		attack()
	}()
	output := writer(func() {
		if h.VCPU {
			attack()
		}
		close(turn)
		select {}
	})
	steps := []func() error{
		s.configure, s.openConsole, s.startMeasuring,
		func() error { s.cfg.Console = output; return nil },
		s.build, s.attachTerminal, s.closeCage, s.execute,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, "before the attack:", err)
			os.Exit(6)
		}
	}
}

// writer does something when the guest writes for the first time.
type writer func()

func (w writer) Write([]byte) (int, error) { w(); return 0, nil }

// attacks are what is tried. An attack returns nil when it has succeeded.
var attacks = map[string]func(dir string) error{
	"open /etc/shadow":        func(string) error { return open("/etc/shadow", unix.O_RDONLY) },
	"open a neighbour's disk": func(dir string) error { return open(dir+"/neighbour", unix.O_RDWR) },
	"open its memory":         func(string) error { return open("/proc/self/mem", unix.O_RDWR) },
	"open KVM once more":      func(string) error { return open("/dev/kvm", unix.O_RDWR) },
	"make a file":             func(dir string) error { return open(dir+"/new", unix.O_CREAT|unix.O_WRONLY) },
	"execute a program":       func(string) error { return unix.Exec("/bin/true", []string{"true"}, nil) },
	"fork":                    func(string) error { return call(unix.SYS_CLONE, uintptr(unix.SIGCHLD)) },
	"clone3":                  func(string) error { return call(unix.SYS_CLONE3) },
	"trace another process":   func(string) error { return unix.PtraceAttach(os.Getppid()) },
	"kill another process":    func(string) error { return unix.Kill(os.Getppid(), 0) },
	"signal another process":  func(string) error { return unix.Tgkill(os.Getppid(), os.Getppid(), 0) },
	"read another's memory":   func(string) error { return call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid())) },
	"get at another's files":  func(string) error { return call(unix.SYS_PIDFD_OPEN, uintptr(os.Getppid()), 0) },
	"connect to loopback":     func(string) error { return connect(unix.AF_INET) },
	"connect to a unix socket": func(dir string) error {
		_, err := net.Dial("unix", dir+"/socket")
		return err
	},
	"open a raw socket":    func(string) error { return socketCall(unix.AF_INET, unix.SOCK_RAW) },
	"open a packet socket": func(string) error { return socketCall(unix.AF_PACKET, unix.SOCK_RAW) },
	"open netlink":         func(string) error { return socketCall(unix.AF_NETLINK, unix.SOCK_RAW) },
	"listen":               func(string) error { return call(unix.SYS_LISTEN, 0, 1) },
	"mount":                func(dir string) error { return unix.Mount("none", dir, "tmpfs", 0, "") },
	"unshare":              func(string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"enter a namespace":    func(string) error { return unix.Setns(0, 0) },
	"change the root":      func(dir string) error { return unix.Chroot(dir) },
	"userfaultfd":          func(string) error { return call(unix.SYS_USERFAULTFD, 0) },
	"make an io_uring":     func(string) error { return call(unix.SYS_IO_URING_SETUP, 8, 0) },
	"load a BPF program":   func(string) error { return call(unix.SYS_BPF, 0, 0, 0) },
	"open perf events":     func(string) error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) },
	"use keyrings":         func(string) error { return call(unix.SYS_KEYCTL, 0, 0) },
	"load a module":        func(string) error { return call(unix.SYS_FINIT_MODULE, 0, 0, 0) },
	"reboot the host":      func(string) error { return call(unix.SYS_REBOOT, 0, 0, 0) },
	"map code":             func(string) error { return mapCode() },
	"make memory code": func(string) error {
		p, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Mprotect(p, unix.PROT_READ|unix.PROT_EXEC)
	},
	"make a memory file":         func(string) error { _, err := unix.MemfdCreate("a", 0); return err },
	"become visible":             func(string) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"raise its limits":           func(string) error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) },
	"type into the terminal":     func(string) error { return call(unix.SYS_IOCTL, 0, unix.TIOCSTI) },
	"another device of KVM's":    func(string) error { return call(unix.SYS_IOCTL, 0, 0xc00caee0) },
	"attach to another tap":      func(string) error { return call(unix.SYS_IOCTL, 0, unix.TUNSETIFF) },
	"make a device in the share": func(dir string) error { return unix.Mknod(dir+"/share/disk", unix.S_IFBLK|0o600, 0x800) },
	"write to the share that is for reading": func(dir string) error {
		return open(dir+"/shown/file", unix.O_RDWR)
	},
	"follow a link out of the share": func(dir string) error { return open(dir+"/share/link", unix.O_RDONLY) },
	"move a file out of the share": func(dir string) error {
		return unix.Renameat(unix.AT_FDCWD, dir+"/share/file", unix.AT_FDCWD, dir+"/file")
	},
	"execute a program of the share": func(dir string) error { return unix.Exec(dir+"/share/file", nil, nil) },
}

func open(path string, flags int) error {
	_, err := unix.Openat(unix.AT_FDCWD, path, flags, 0o600)
	return err
}

func call(nr uintptr, args ...uintptr) error {
	var a [3]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall(nr, a[0], a[1], a[2]); errno != 0 {
		return errno
	}
	return nil
}

func socketCall(family, kind int) error {
	_, err := unix.Socket(family, kind, 0)
	return err
}

func connect(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: 22, Addr: [4]byte{127, 0, 0, 1}})
	}
	return err
}

func mapCode() error {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	return err
}

// Whatever a thread tries that the guest has taken over is refused: by the filter,
// which ends vmm with a line that names the call and status 1, or, in a machine with
// shared folders, by Landlock.
func TestHostile(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if missing := sandbox.Missing(); missing != nil {
		t.Skip(missing)
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(writeKernels(dir))
	for _, name := range []string{"disk", "neighbour"} {
		must(os.WriteFile(filepath.Join(dir, name), make([]byte, 1<<20), 0o600))
	}
	for _, name := range []string{"share", "shown"} {
		must(os.Mkdir(filepath.Join(dir, name), 0o755))
		must(os.WriteFile(filepath.Join(dir, name, "file"), []byte("#!/bin/true\n"), 0o755))
	}
	must(os.Symlink("/etc/passwd", filepath.Join(dir, "share", "link")))
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(err)
	defer l.Close()

	var rows []string
	var mu sync.Mutex
	run := make(chan struct{}, runtime.NumCPU())
	t.Run("attacks", func(t *testing.T) {
		for name := range attacks {
			for _, shares := range []bool{false, true} {
				for _, vcpu := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/shares=%v/vCPU=%v", name, shares, vcpu), func(t *testing.T) {
						t.Parallel()
						run <- struct{}{}
						defer func() { <-run }()
						how := refusalOf(t, hostility{name, vcpu, shares, dir})
						mu.Lock()
						defer mu.Unlock()
						rows = append(rows, fmt.Sprintf("%s (shares: %v, vCPU: %v): %s", name, shares, vcpu, how))
					})
				}
			}
		}
	})
	t.Logf("%d attempts refused", len(rows))
	for _, name := range []string{"new", "file", "share/disk"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}

// refusalOf has a vmm turn hostile, and says how it was refused.
func refusalOf(t *testing.T, h hostility) string {
	t.Helper()
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("vmm-hostile", string(text))
	cmd.Path, err = os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err = cmd.Run()
	said := strings.TrimSpace(stderr.String())
	line, more, _ := strings.Cut(said, "\n")
	call, refused := strings.CutPrefix(line, "vmm: the sandbox refused a system call, ")
	switch status := cmd.ProcessState.ExitCode(); {
	case refused && status == 1 && more == "":
		call, _, _ = strings.Cut(call, ", and vmm ends")
		return call
	case h.Shares && status == 5 && (line == "attack: "+unix.EACCES.Error() || line == "attack: "+unix.EXDEV.Error()):
		return line
	}
	t.Errorf("%v, and said:\n%s", err, said)
	return ""
}
