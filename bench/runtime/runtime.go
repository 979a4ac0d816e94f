// Package runtime starts an application in many ways: as a process, in
// containers, in virtual machines, as a unikernel. Each is a small driver behind
// the same interface.
package runtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/bench/cgroup"
	"vmm/bench/netlab"
	"vmm/bench/result"
)

// Runtime starts instances of one application. Its methods may be called by
// several goroutines at once.
type Runtime interface {
	// Describe says what the runtime is. It works for a missing one too.
	Describe() Description
	// Find looks for what the runtime needs, and returns its version. The error
	// says what is missing and how to get it.
	Find() (version string, err error)
	// Files are what an instance is started from. Find has succeeded.
	Files() []File
	// Start starts an instance: it returns once its program is executed, long
	// before it serves.
	Start(Spec) (*Instance, error)
}

// Contained is a Runtime of containers.
type Contained interface {
	Runtime
	// Config is the file with the configuration that the OCI runtime was given for
	// an instance that runs; "" where that does not say which system calls of the
	// host are open.
	Config(*Instance) (string, error)
}

// Served is a Runtime whose instances are started by a daemon.
type Served interface {
	Runtime
	// Daemons are the daemon's processes, once there was an instance.
	Daemons() []int
}

// Rebuilder is a Runtime whose application can be compiled anew.
type Rebuilder interface {
	Runtime
	// Rebuild compiles the application, as after a change of its source, and
	// returns a runtime with that, whose files are in a folder.
	Rebuild(ctx context.Context, dir string) (Runtime, error)
}

// rebuild runs a script that compiles an application.
func rebuild(ctx context.Context, script string, args ...string) error {
	if _, err := os.Stat(script); err != nil {
		return Missing{"the application's source is not here, to compile it anew", "'make bench-assets' in vmm's source puts it there"}
	}
	cmd := Command(ctx, append([]string{script}, args...)...)
	cmd.Env = append(cmd.Env, caches()...)
	if _, err := callCommand(cmd); err != nil {
		return fmt.Errorf("compile the application: %w", err)
	}
	return nil
}

// Description is what is known of a runtime without looking for it.
type Description struct {
	Name string
	Kind Kind
	Link Link
	// Memory is what an instance has unless told otherwise, in bytes; 0: as much
	// as the host.
	Memory int64
	// Heavy tells that an instance is a whole distribution: suites that start
	// many take fewer.
	Heavy bool
	// Confined says what keeps the workload from the host, beside what its kind
	// says: whose process it is, which system calls are open.
	Confined string
}

// Kind is what is between the workload and the host.
type Kind string

// The kinds.
const (
	KindProcess   Kind = "process"
	KindContainer Kind = "container"
	KindVM        Kind = "virtual machine"
	KindUnikernel Kind = "unikernel"
)

// Link is how an instance is connected.
type Link int

// The links.
const (
	LinkHost Link = iota // it shares the bench's own network
	LinkTap
	LinkVeth
	LinkAddress // it makes its device on the bridge itself, and is told the address
)

// File is a file that instances are started from.
type File struct{ Role, Path string }

// App is an application: a static program that listens on a port.
type App struct {
	Name string
	Port uint16
	Path string // of a request that tells whether it is ready
	// Sorts tells that it has POST /sort.
	Sorts bool
	// Root is the folder of a container image; "" for a program alone.
	Root string
	// Args is the command, by its path in Root; nil for the program alone, which
	// then is /app.
	Args []string
	Env  []string
	// Dir is the working directory, in Root.
	Dir string
	// User is whose process it is: root's, unless the image says otherwise.
	User User
}

// Command is how the application is started in a container.
func (a App) Command() []string {
	if a.Args != nil {
		return a.Args
	}
	return []string{"/app"}
}

// User is a user by numbers, with groups beside the first.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// String is the user and group as container engines take them.
func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// flags are the words for an engine's command line.
func (u User) flags() []string {
	words := []string{"--user", u.String()}
	for _, g := range u.Groups {
		words = append(words, "--group-add", strconv.FormatUint(uint64(g), 10))
	}
	return words
}

// Spec is what an instance is to be.
type Spec struct {
	// Name is unique in the run. The runtime knows the instance by it.
	Name string
	// Endpoint is its connection; nil for LinkHost, with Port instead.
	Endpoint *netlab.Endpoint
	// Port is where a process listens.
	Port uint16
	// Memory is the size of a machine, or a bound for a container or process;
	// 0 for the runtime's own choice.
	Memory int64
	// Group is the cgroup for its processes, in Tree.
	Group cgroup.Group
	Tree  *cgroup.Tree
	// Dir is a folder for what it needs, which the bench removes.
	Dir string
	// CPUs are the processors to run on; nil for any.
	CPUs []int
	// Wrap is a command that executes the runtime's, such as strace.
	Wrap []string
}

// Missing is an error of Find: something is not here, and how to get it.
type Missing struct{ What, Get string }

func (m Missing) Error() string { return fmt.Sprintf("%s; %s", m.What, m.Get) }

// lookFor finds a program.
func lookFor(program, get string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", Missing{program + " is not installed", get}
	}
	return path, nil
}

// needFile checks that a file that was to be built is there.
func needFile(path, what string) error {
	if _, err := os.Stat(path); err != nil {
		return Missing{what + " is not built", "'make bench-assets' in vmm's source builds it, or 'vmm bench install ARCHIVE' takes it from the archive that 'make bench-archive' makes; --assets says where it is"}
	}
	return nil
}

// needKVM checks that this user may start virtual machines.
func needKVM() error {
	if unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return Missing{"/dev/kvm is missing or not permitted", "'vmm doctor' says how to get it"}
	}
	return nil
}

// versionOf is the first line that a program says about its version.
func versionOf(program string, args ...string) string {
	out, err := call(append([]string{program}, args...)...)
	if err != nil {
		return "unknown version"
	}
	line, _, _ := strings.Cut(out, "\n")
	return strings.TrimSpace(line)
}

// ResultFiles describes the files for the results.
func ResultFiles(files []File) ([]result.File, error) {
	var all []result.File
	for _, f := range files {
		r, err := result.Describe(f.Role, f.Path)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}
