package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vmm/bench/isolation"
	"vmm/bench/load"
	"vmm/bench/runtime"
	"vmm/sandbox"
)

func (h *host) planIsolation(s *subject) []*trial {
	return []*trial{{
		id: "0", starts: 2, seconds: 1,
		run: func(ctx context.Context, r *recorder) error { return h.trialIsolation(ctx, r, s) },
	}}
}

// requests are made while the system calls are traced, within a time: strace writes
// as long as the workload makes calls.
const (
	requests    = 50
	exerciseFor = 2 * time.Minute
)

// trialIsolation looks at the fence around the workload, and then at the system
// calls of another instance under strace, which takes that down a little.
func (h *host) trialIsolation(ctx context.Context, r *recorder, s *subject) error {
	if err := h.trialFence(ctx, r, s); err != nil {
		return err
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return notTried("system calls: strace is not installed (Debian: apt-get install strace)")
	}
	return h.trialCalls(ctx, r, s)
}

func (h *host) trialFence(ctx context.Context, r *recorder, s *subject) (err error) {
	i, _, err := h.up(ctx, s, wish{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	f, err := isolation.Of(i.Main())
	if err != nil {
		return err
	}
	r.sample("capabilities", 0, 0, float64(f.Capabilities))
	r.sample("namespaces", 0, 0, float64(len(f.Namespaces)))
	r.sample("isolation_threads", 0, 0, float64(f.Threads))
	r.fact("seccomp", f.Seccomp)
	r.fact("no_new_privs", fmt.Sprint(f.NoNewPrivs))
	r.fact("namespaces", strings.Join(f.Namespaces, " "))
	r.fact("user", f.User)
	r.fact("kernel", h.kernel(s))
	open, err := openCalls(s, i, f)
	if err != nil {
		return err
	}
	if open >= 0 {
		r.sample("syscalls_open", 0, 0, float64(open))
	}
	escaped, err := escapedCalls(ctx, i.Main(), f)
	if err != nil {
		return err
	}
	if escaped >= 0 {
		r.sample("syscalls_escaped", 0, 0, float64(escaped))
	}
	return nil
}

// escapedCalls is how many system calls of the host a workload may make that controls
// the process which runs it, of a machine its monitor; -1: not known, for the kernel
// shows no filters.
func escapedCalls(ctx context.Context, pid int, f isolation.Fence) (int, error) {
	if f.Seccomp == "off" {
		return isolation.HostCalls()
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// The filters are read by a process of its own, which stops the one that has them: a
	// parent that did it itself would take the stop for an end.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, self, "bench", AllowedCommand, strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, fmt.Errorf("filters of process %d: %w", pid, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// AllowedCommand is the hidden command that prints how many system calls a process may
// make by its filters, or -1.
const AllowedCommand = "allowed"

// Allowed is what AllowedCommand prints about a process.
func Allowed(pid string) (int, error) {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return 0, err
	}
	calls, filtered, err := sandbox.Allowed(n)
	if err != nil || !filtered {
		return -1, err
	}
	return len(calls), nil
}

// kernel is the version of the kernel that the application runs on.
func (h *host) kernel(s *subject) string {
	switch s.Kind {
	case runtime.KindUnikernel:
		return "none: the application is linked with what it needs of one"
	case runtime.KindVM:
		for _, f := range s.files {
			if f.Role == "kernel" {
				return "its own, Linux " + isolation.KernelVersion(f.Path)
			}
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "the host's, Linux " + strings.TrimSpace(string(release))
}

// openCalls is how many system calls of the host the workload may make; -1: not
// known. A guest can make none: what reaches the host of it are exits to its
// monitor.
func openCalls(s *subject, i *running, f isolation.Fence) (int, error) {
	if s.Kind == runtime.KindVM || s.Kind == runtime.KindUnikernel {
		return 0, nil
	}
	if c, ok := s.Runtime.(runtime.Contained); ok && f.Seccomp != "off" {
		config, err := c.Config(i.Instance)
		if err != nil || config == "" {
			return -1, err
		}
		return runtime.OpenCalls(config)
	}
	if f.Seccomp != "off" {
		return -1, nil
	}
	return isolation.HostCalls()
}

func (h *host) trialCalls(ctx context.Context, r *recorder, s *subject) (err error) {
	file := filepath.Join(h.scratch, "strace-"+s.Name)
	defer os.Remove(file)
	var w wish
	end := func() error { return nil }
	if d, ok := s.Runtime.(runtime.Served); ok {
		if end, err = attach(file, d.Daemons()); err != nil {
			return err
		}
	} else {
		w.wrap = isolation.Trace(file)
	}
	i, _, err := h.up(ctx, s, w)
	if err != nil {
		return errors.Join(fmt.Errorf("under strace: %w", err), end())
	}
	exercise, cancel := context.WithTimeout(ctx, exerciseFor)
	threads, err := h.exercise(exercise, i)
	cancel()
	// It ends with what it traces, or is told to, and has written everything then.
	if err := errors.Join(err, i.close(), end()); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	all, workload, err := isolation.Calls(f, threads)
	if err != nil {
		return err
	}
	if len(workload) == 0 {
		return errors.New("strace saw no system call of the workload")
	}
	r.sample("syscalls", 0, 0, float64(len(workload)))
	r.fact("syscalls", strings.Join(workload, " "))
	r.sample("syscalls_start", 0, 0, float64(len(all)))
	return nil
}

// attach traces processes that run, and all that they start, until it is ended.
func attach(file string, pids []int) (end func() error, err error) {
	args := isolation.Attach(file, pids)
	cmd := runtime.Command(context.Background(), args...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(settling)
	return func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return fmt.Errorf("strace: %w", err)
		}
		_ = cmd.Wait() // it ends by the signal, when it has let go of them
		return nil
	}, nil
}

// exercise makes requests, and returns the threads that have answered them.
func (h *host) exercise(ctx context.Context, i *running) ([]int, error) {
	for range requests {
		if _, err := load.Get(ctx, i.Addr, i.subject.app.Path); err != nil {
			return nil, fmt.Errorf("under strace: %w", err)
		}
	}
	pids, err := i.group.Processes()
	if err != nil {
		return nil, err
	}
	return isolation.Threads(pids)
}
