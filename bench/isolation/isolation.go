// Package isolation finds out what stands between a workload and the host's
// kernel: the system calls that its processes make, and what they are allowed.
package isolation

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Trace is a command that executes another under strace, and writes its system
// calls to a file.
func Trace(file string) []string {
	return []string{"strace", "-f", "-qq", "-s", "0", "-o", file}
}

// Attach is a command that does so for processes that run, and all that they start.
func Attach(file string, pids []int) []string {
	args := Trace(file)
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	return args
}

// Calls reads what strace has written: the distinct system calls of all threads,
// and of some of them from the last program on that they executed.
func Calls(r io.Reader, threads []int) (all, workload []string, err error) {
	sets := [2]map[string]bool{{}, {}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		tid, name, ok := parseCall(lines.Text())
		if !ok {
			continue
		}
		sets[0][name] = true
		if slices.Contains(threads, tid) {
			if name == "execve" {
				clear(sets[1])
			}
			sets[1][name] = true
		}
	}
	return sorted(sets[0]), sorted(sets[1]), lines.Err()
}

// parseCall reads lines such as
//
//	93  read(3, ""..., 4096) = 17
//	93  <... read resumed>) = 17
func parseCall(line string) (tid int, name string, ok bool) {
	word, rest, ok := strings.Cut(line, " ")
	if !ok {
		return 0, "", false
	}
	tid, err := strconv.Atoi(word)
	if err != nil {
		return 0, "", false
	}
	name, _, ok = strings.Cut(strings.TrimSpace(rest), "(")
	// A number that is no system call's is written as one: a program can make up any.
	if !ok || name == "" || strings.HasPrefix(name, "syscall_0x") || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return 0, "", false
	}
	return tid, name, true
}

func sorted(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for name := range set {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// Fence is what a process is allowed, and what it does not share with this one.
type Fence struct {
	Seccomp      string // off, strict or filter
	NoNewPrivs   bool
	Capabilities int // effective ones
	Namespaces   []string
	User         string // its user id
	Threads      int
}

// Of is the fence around a process.
func Of(pid int) (Fence, error) {
	var f Fence
	dir := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); name {
		case "Seccomp":
			f.Seccomp = map[string]string{"0": "off", "1": "strict", "2": "filter"}[value]
		case "NoNewPrivs":
			f.NoNewPrivs = value == "1"
		case "CapEff":
			set, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return f, fmt.Errorf("CapEff: %w", err)
			}
			f.Capabilities = bits.OnesCount64(set)
		case "Uid":
			f.User, _, _ = strings.Cut(value, "\t")
		case "Threads":
			f.Threads, _ = strconv.Atoi(value)
		}
	}
	f.Namespaces, err = namespaces(dir)
	return f, err
}

// namespaces are the kinds of namespaces that a process does not share with this.
func namespaces(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "ns"))
	if err != nil {
		return nil, err
	}
	var apart []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_for_children") {
			continue
		}
		theirs, err1 := os.Readlink(filepath.Join(dir, "ns", e.Name()))
		ours, err2 := os.Readlink(filepath.Join("/proc/self/ns", e.Name()))
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if theirs != ours {
			apart = append(apart, e.Name())
		}
	}
	return apart, nil
}

// Threads are the ids of the threads of processes.
func Threads(pids []int) ([]int, error) {
	var tids []int
	for _, pid := range pids {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if tid, err := strconv.Atoi(e.Name()); err == nil {
				tids = append(tids, tid)
			}
		}
	}
	return tids, nil
}

// HostCalls is how many system calls the host's kernel has for 64-bit programs.
func HostCalls() (int, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	names := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) >= 3 {
			if name, ok := strings.CutPrefix(w[2], "__x64_sys_"); ok && name != "ni_syscall" {
				names[name] = true
			}
		}
	}
	if len(names) == 0 {
		return 0, errors.New("/proc/kallsyms names no system calls")
	}
	return len(names), lines.Err()
}

// KernelVersion finds the version in a Linux image that is not compressed; "" when
// there is none.
func KernelVersion(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(data), "Linux version ")
	for ok {
		if version, _, _ := strings.Cut(rest, " "); len(version) < 80 && version != "" && version[0] >= '0' && version[0] <= '9' {
			return version
		}
		_, rest, ok = strings.Cut(rest, "Linux version ")
	}
	// The setup of a compressed one points to its version: Documentation/arch/x86/boot.rst.
	if len(data) > 0x210 && string(data[0x202:0x206]) == "HdrS" {
		at := (int(data[0x20e]) | int(data[0x20f])<<8) + 0x200
		if at < len(data) {
			version, _, _ := strings.Cut(string(data[at:min(at+80, len(data))]), " ")
			return version
		}
	}
	return ""
}
