package runtime

import (
	"fmt"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"vmm/untrusted"
)

// tinyCalls are the system calls that the C application makes, and crun before it
// executes it.
var tinyCalls = []string{
	"accept4", "arch_prctl", "bind", "brk", "clock_gettime", "close", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
	"execve", "exit", "exit_group", "fstat", "futex", "getpid", "ioctl", "listen", "mmap", "mprotect", "munmap", "prctl", "read",
	"reboot", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sendto", "set_tid_address", "setsockopt", "shutdown", "signalfd4",
	"socket", "write", "writev",
}

// seccomp is the filter of a container: the default profile of Docker's engine, which
// all hosts have alike as it is built in, or for a tiny one what it needs.
func (o *oci) seccomp(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	if o.tiny {
		errno := uint(1) // EPERM
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, DefaultErrnoRet: &errno, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: tinyCalls, Action: specs.ActAllow}},
		}, nil
	}
	return seccomp.GetDefaultProfile(spec)
}

// OpenCalls is how many system calls the filter of a container lets pass, by the
// configuration that its OCI runtime was given; -1 without a filter.
func OpenCalls(config string) (int, error) {
	f, err := os.Open(config)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var spec specs.Spec
	if err := untrusted.JSON(f, untrusted.Limits{Bytes: 16 << 20, Values: 1_000_000}, &spec); err != nil {
		return 0, fmt.Errorf("%s: %w", config, err)
	}
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return -1, nil
	}
	open := map[string]bool{}
	for _, s := range spec.Linux.Seccomp.Syscalls {
		if s.Action == specs.ActAllow {
			for _, name := range s.Names {
				open[name] = true
			}
		}
	}
	return len(open), nil
}
