package sandbox

import (
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const testPID = 4711

// decide is what the filter says of a call.
func decide(t *testing.T, g Group, arch uint32, nr uintptr, args ...uint64) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(filter(g, testPID))
	if err != nil {
		t.Fatal(err)
	}
	// The VM reads packets, which are big-endian; seccomp reads numbers.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], uint32(nr))
	binary.BigEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[dataArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[dataArgs+8*i+4:], uint32(a>>32))
	}
	n, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func TestFilter(t *testing.T) {
	const (
		allow = unix.SECCOMP_RET_ALLOW
		trap  = unix.SECCOMP_RET_TRAP
	)
	none, all := Machine, ^Group(0)
	for _, tt := range []struct {
		name  string
		group Group
		nr    uintptr
		args  []uint64
		want  uint32
	}{
		{"a guest runs", Machine, unix.SYS_IOCTL, []uint64{9, 0xae80}, allow},
		{"another request of KVM's", all, unix.SYS_IOCTL, []uint64{9, 0xc00caee0}, trap}, // KVM_CREATE_DEVICE
		{"a key typed into somebody's terminal", all, unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, trap},
		{"a tap's offloads, without one", none, unix.SYS_IOCTL, []uint64{9, unix.TUNSETOFFLOAD}, trap},
		{"a tap's offloads", Machine | Tap, unix.SYS_IOCTL, []uint64{9, unix.TUNSETOFFLOAD}, allow},
		{"another tap", all, unix.SYS_IOCTL, []uint64{9, unix.TUNSETIFF}, trap},
		{"memory", Machine, unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"code", all, unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, trap},
		{"code, with other bits in the upper half", all, unix.SYS_MMAP, []uint64{0, 4096, 1<<40 | unix.PROT_EXEC}, trap},
		{"memory becomes code", all, unix.SYS_MPROTECT, []uint64{0, 4096, unix.PROT_EXEC}, trap},
		{"a thread", Machine, unix.SYS_CLONE, []uint64{goThread}, allow},
		{"a thread with its own storage", Machine, unix.SYS_CLONE, []uint64{goThread | unix.CLONE_SETTLS}, allow},
		{"a process", all, unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, trap},
		{"a user namespace", all, unix.SYS_CLONE, []uint64{goThread | unix.CLONE_NEWUSER}, trap},
		{"clone3, whose flags are out of sight", all, unix.SYS_CLONE3, nil, trap},
		{"a thread of its own is signalled", Machine, unix.SYS_TGKILL, []uint64{testPID, 1, 23}, allow},
		{"another process is signalled", all, unix.SYS_TGKILL, []uint64{1, 1, 23}, trap},
		{"another process is killed", all, unix.SYS_KILL, []uint64{1, 9}, trap},
		{"a program", all, unix.SYS_EXECVE, nil, trap},
		{"a file, without shares", Machine | Disk | Tap, unix.SYS_OPENAT, nil, trap},
		{"a file of a share", Machine | Share, unix.SYS_OPENAT, nil, allow},
		{"a device in a share", all, unix.SYS_MKNODAT, []uint64{3, 0, unix.S_IFBLK | 0o600, 7}, trap},
		{"a pipe in a share", Machine | Share, unix.SYS_MKNODAT, []uint64{3, 0, unix.S_IFIFO | 0o600}, allow},
		{"a unix socket, without vsock", Machine | Serve, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, trap},
		{"a unix socket of a machine with vsock", Machine | Serve | Broker, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, trap},
		{"a unix socket of its broker", Dial, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}, allow},
		{"a raw socket", all, unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_RAW}, trap},
		{"a packet socket", all, unix.SYS_SOCKET, []uint64{unix.AF_PACKET, unix.SOCK_RAW}, trap},
		{"a socket of the machine's for TCP", Machine | Dial, unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM}, trap},
		{"a file of the name service", Network, unix.SYS_OPENAT, []uint64{0, 0, unix.O_RDONLY | unix.O_CLOEXEC}, allow},
		{"a file to write to, for a network", Network, unix.SYS_OPENAT, []uint64{0, 0, unix.O_WRONLY}, trap},
		{"a file to make, for a network", Network, unix.SYS_OPENAT, []uint64{0, 0, unix.O_CREAT}, trap},
		{"a new port of a network's", Network, unix.SYS_LISTEN, nil, trap},
		{"a unix socket of a network's", Network, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, trap},
		{"a ring", all, unix.SYS_IO_URING_SETUP, nil, trap},
		{"a ring takes other requests", all, unix.SYS_IO_URING_REGISTER, nil, trap},
		{"times of an open image", Machine | Disk, unix.SYS_UTIMENSAT, []uint64{9, 0}, allow},
		{"times of a file by name", Machine | Disk, unix.SYS_UTIMENSAT, []uint64{9, 4096}, trap},
		{"the process can be looked into again", all, unix.SYS_PRCTL, []uint64{unix.PR_SET_DUMPABLE, 1}, trap},
	} {
		if got := decide(t, tt.group, unix.AUDIT_ARCH_X86_64, tt.nr, tt.args...); got != tt.want {
			t.Errorf("%s (%s%#x): %#x, want %#x", tt.name, Name(tt.nr), tt.args, got, tt.want)
		}
	}
}

// The numbers of another architecture's calls mean other calls.
func TestOtherArchitectures(t *testing.T) {
	if got := decide(t, ^Group(0), unix.AUDIT_ARCH_I386, unix.SYS_READ); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("i386: %#x", got)
	}
	const x32 = 0x4000_0000
	if got := decide(t, ^Group(0), unix.AUDIT_ARCH_X86_64, unix.SYS_READ|x32); got != unix.SECCOMP_RET_TRAP {
		t.Errorf("x32: %#x", got)
	}
}

// Nothing that is not in the list gets through, whatever its arguments.
func TestListIsAll(t *testing.T) {
	for _, g := range []Group{Machine, Machine | Disk | Tap, ^Group(0)} {
		listed := map[string]bool{}
		for _, c := range Calls(g) {
			listed[c.Name] = true
		}
		for nr := range uintptr(600) {
			got := decide(t, g, unix.AUDIT_ARCH_X86_64, nr)
			if got == unix.SECCOMP_RET_ALLOW && !listed[Name(nr)] {
				t.Errorf("group %#x lets %s through, which is not in the list", g, Name(nr))
			}
		}
	}
}

// A machine with a disk and a tap makes few calls, as 'vmm bench' counts them for
// containers: those of its filter.
func TestNumberOfCalls(t *testing.T) {
	const most = 45
	calls := Calls(Machine | Disk | Tap)
	if len(calls) > most {
		t.Errorf("%d calls with a disk and a tap, want at most %d", len(calls), most)
	}
	t.Logf("%d calls alone, %d with a disk and a tap, %d with every device and a control socket",
		len(Calls(Machine)), len(calls), len(Calls(Machine|Disk|Tap|UserNetwork|Share|Serve|Remove|Broker)))
	t.Logf("%d of a user network's process, %d of a broker's", len(Calls(Network)), len(Calls(Dial)))
	for _, c := range calls {
		t.Logf("%-20s %s", c.Name, c.Limits)
	}
}

// Each request of KVM's is one that package kvm knows, whose numbers are compared
// with the kernel's headers there.
func TestRequests(t *testing.T) {
	known := map[uint32]bool{}
	files, err := filepath.Glob("../kvm/ioctl*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "req") {
				number, err := strconv.ParseUint(v.Values[0].(*ast.BasicLit).Value, 0, 32)
				if err != nil {
					t.Fatal(err)
				}
				known[uint32(number)] = true
			}
			return true
		})
	}
	for _, r := range kvmRequests {
		if !known[r.n] {
			t.Errorf("%s is %#x, which package kvm does not know", r.name, r.n)
		}
	}
}
