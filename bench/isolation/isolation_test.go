package isolation

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCalls(t *testing.T) {
	text := `10    execve("/usr/sbin/runc", ...) = 0
10    brk(NULL)                         = 0x5581
11    pivot_root(".", ".") = 0
11    execve("/app", ...) = 0
11    read(3,  <unfinished ...>
10    wait4(-1,  <unfinished ...>
11    <... read resumed>"", 4096)     = 17
12    epoll_wait(4, ...) = 1
12    syscall_0x1234(0x1, 0x2) = -1 ENOSYS (Function not implemented)
11    --- SIGTERM {si_signo=SIGTERM} ---
11    +++ exited with 0 +++
`
	all, workload, err := Calls(strings.NewReader(text), []int{11, 12})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"brk", "epoll_wait", "execve", "pivot_root", "read", "wait4"}, all); diff != "" {
		t.Errorf("all: %s", diff)
	}
	if diff := cmp.Diff([]string{"epoll_wait", "execve", "read"}, workload); diff != "" {
		t.Errorf("workload: %s", diff)
	}
}

func TestFenceOfThisProcess(t *testing.T) {
	f, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if f.Threads < 1 || f.Seccomp == "" || f.User == "" {
		t.Errorf("Of = %+v, want threads, a state of seccomp and a user", f)
	}
	if len(f.Namespaces) > 0 {
		t.Errorf("this process does not share %v with itself", f.Namespaces)
	}
}
