package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SeccompProfile is where the profile of the container engines is, which Docker,
// Podman and containerd apply unless told otherwise.
const SeccompProfile = "/usr/share/containers/seccomp.json"

// tinyCalls are the system calls that the C application makes, and crun before it
// executes it.
var tinyCalls = []string{
	"accept4", "arch_prctl", "bind", "brk", "clock_gettime", "close", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
	"execve", "exit", "exit_group", "fstat", "futex", "getpid", "ioctl", "listen", "mmap", "mprotect", "munmap", "prctl", "read",
	"reboot", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sendto", "set_tid_address", "setsockopt", "shutdown", "signalfd4",
	"socket", "write", "writev",
}

// profile is the part of an engine's profile that concerns this machine. Its
// format is that of github.com/containers/common/pkg/seccomp.
type profile struct {
	DefaultAction   specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet *uint                    `json:"defaultErrnoRet"`
	Syscalls        []struct {
		Names    []string                 `json:"names"`
		Name     string                   `json:"name"`
		Action   specs.LinuxSeccompAction `json:"action"`
		ErrnoRet *uint                    `json:"errnoRet"`
		Args     []specs.LinuxSeccompArg  `json:"args"`
		Includes condition                `json:"includes"`
		Excludes condition                `json:"excludes"`
	} `json:"syscalls"`
}

type condition struct {
	Caps   []string `json:"caps"`
	Arches []string `json:"arches"`
}

// holds tells whether all that a condition names is the case.
func (c condition) holds(capabilities []string) bool {
	for _, name := range c.Caps {
		if !slices.Contains(capabilities, name) {
			return false
		}
	}
	return len(c.Arches) == 0 || slices.Contains(c.Arches, "amd64") || slices.Contains(c.Arches, "x86_64")
}

func (c condition) empty() bool { return len(c.Caps) == 0 && len(c.Arches) == 0 }

// seccomp is the filter of the container; nil for none.
func (o *oci) seccomp(capabilities []string) (*specs.LinuxSeccomp, error) {
	arches := []specs.Arch{specs.ArchX86_64}
	if o.tiny {
		errno := uint(1) // EPERM
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, DefaultErrnoRet: &errno, Architectures: arches,
			Syscalls: []specs.LinuxSyscall{{Names: tinyCalls, Action: specs.ActAllow}},
		}, nil
	}
	text, err := os.ReadFile(SeccompProfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseProfile(text, capabilities, arches)
}

func parseProfile(text []byte, capabilities []string, arches []specs.Arch) (*specs.LinuxSeccomp, error) {
	var p profile
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", SeccompProfile, err)
	}
	filter := &specs.LinuxSeccomp{DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: arches}
	for _, s := range p.Syscalls {
		if !s.Includes.holds(capabilities) || !s.Excludes.empty() && s.Excludes.holds(capabilities) {
			continue
		}
		names := s.Names
		if s.Name != "" {
			names = append(names, s.Name)
		}
		filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: names, Action: s.Action, ErrnoRet: s.ErrnoRet, Args: s.Args})
	}
	return filter, nil
}

// OpenCalls is how many system calls the filter of a container lets pass, by the
// configuration that its OCI runtime was given; -1 without a filter.
func OpenCalls(config string) (int, error) {
	text, err := os.ReadFile(config)
	if err != nil {
		return 0, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
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
