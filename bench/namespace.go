package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/bench/cgroup"
	"vmm/bench/netlab"
	benchrt "vmm/bench/runtime"
)

// A bench runs as a process in namespaces of its own: for processes, mounts and
// the network. When it ends, in whatever way, the kernel ends all that it started
// and removes its network and its mounts. What is left for the process outside is
// its cgroups, and a folder: see scratch.go.

// InsideCommand is the hidden command of the process inside.
const InsideCommand = "inside"

// inside is what the process inside is told, in its environment.
const insideVariable = "VMM_BENCH_INSIDE"

type inside struct {
	Options Options
	Scratch string   // the folder for what instances need
	Name    string   // of the run: of its cgroups in the hierarchy, and its tracing
	Killed  []string // names of runs that were killed
}

// Run measures what the options ask for. It is what 'vmm bench run' does: the
// measuring itself is done by another process, see Inside. Interrupting ctx ends
// that, with its results kept.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := prepareDir(&o); err != nil {
		return err
	}
	defer os.Remove(o.Dir) // which fails unless it is empty
	killed := sweep()
	scratch, err := makeScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.remove()) }()
	tree, err := cgroup.New(scratch.name(), killed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	text, err := json.Marshal(inside{o, scratch.run(), scratch.name(), killed})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "bench", InsideCommand)
	cmd.Env = append(os.Environ(), insideVariable+"="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL, // and with it, all in its namespace
		Setpgid:    true,            // Ctrl-C is for this process, which passes it on
	}
	// Pdeathsig is about this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The process inside and its threads are where the client is to be.
	if err := benchrt.OnCPUs(o.ClientCPUs, cmd.Start); err != nil {
		return err
	}
	again := make(chan os.Signal, 1)
	release := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "\nvmm: ending; once more to end at once, without the results of what is going on")
		signals := endSignals()
		if len(signals) > 0 { // else it was no signal, and the process inside obeys none
			signal.Notify(again, signals...)
			_ = cmd.Process.Signal(signals[0])
		}
		if _, ok := <-again; ok {
			_ = cmd.Process.Kill()
		}
	})
	err = cmd.Wait()
	if !release() {
		signal.Stop(again)
		close(again)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return Ended(exit.ExitCode())
	}
	return err
}

// endSignals are the signals that end a run, without what the bench was started
// to ignore, as was the process inside.
func endSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}, signal.Ignored)
}

// Ended is how the process inside ended, which has reported why.
type Ended int

func (e Ended) Error() string { return fmt.Sprintf("the measuring ended with status %d", int(e)) }

// prepareDir makes the folder for the results, or checks that there is a run to
// go on with.
func prepareDir(o *Options) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	_, err = os.Stat(filepath.Join(dir, "samples.csv"))
	switch {
	case o.Resume && err != nil:
		return fmt.Errorf("--resume: %s holds no run to go on with", dir)
	case !o.Resume && err == nil:
		return fmt.Errorf("%s holds a run already: choose another folder with -o, or go on with it with --resume", dir)
	}
	return os.MkdirAll(dir, 0o755)
}

// Inside is the process inside.
func Inside() error {
	var in inside
	if err := json.Unmarshal([]byte(os.Getenv(insideVariable)), &in); err != nil {
		return fmt.Errorf("%s is for 'vmm bench run' to call: %w", InsideCommand, err)
	}
	os.Unsetenv(insideVariable)
	ctx := context.Background()
	if signals := endSignals(); len(signals) > 0 { // of none, NotifyContext makes all
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, signals...)
		defer stop()
	}
	if err := settle(in.Scratch); err != nil {
		return err
	}
	if err := netlab.Setup(); err != nil {
		return err
	}
	return measure(ctx, in, cgroup.Open(filepath.Join(cgroupMount, in.Name)))
}

// settle makes the namespaces a place to work in.
func settle(scratch string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Images are unpacked into the folder, and their device nodes open nothing.
	for _, m := range []struct {
		kind, path string
		flags      uintptr
	}{{"proc", "/proc", 0}, {"tmpfs", scratch, unix.MS_NODEV}} {
		if err := unix.Mount(m.kind, m.path, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.kind, err)
		}
	}
	// Container runtimes look here. Hosts with hierarchies of both versions have
	// the second one elsewhere.
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupMount, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	if err := unix.Mount("cgroup2", cgroupMount, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup2: %w", err)
	}
	return nil
}

// cgroupMount is where the hierarchy of cgroups is, inside.
const cgroupMount = "/sys/fs/cgroup"
