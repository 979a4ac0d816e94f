package runtime

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vmm/bench/netlab"
)

// Instance is an application that was started.
type Instance struct {
	// Started is the moment before its program was executed.
	Started time.Time
	// Addr is where it listens, or will.
	Addr netip.AddrPort

	spec   Spec
	output *tail
	stop   func() error // asks it to end
	clean  func() error // removes what the runtime keeps of it
	input  io.Closer    // its console, for as long as it runs; nil without

	said    chan struct{} // closed when all of its output was read
	settled chan struct{} // closed when main is known, or it has ended
	exited  chan struct{} // closed when it has ended
	err     error         // set before; nil when it ended because it was asked to

	mu    sync.Mutex
	main  int  // process id of what runs the workload; 0 while it is not known
	asked bool // to end
}

// launch executes a command for an instance. A command that is detached ends when
// the instance runs, and leaves the process id of it in the file "pid" of the
// instance's folder.
type launch struct {
	spec     Spec
	port     uint16
	args     []string
	env      []string
	inGroup  bool // executed in the instance's cgroup
	detached bool
	console  bool                        // its input stays open
	find     func() (pid int, err error) // of a detached one; nil: the file says it
	stop     func(pid int) error
	clean    func() error
}

func (l launch) start() (*Instance, error) {
	i := &Instance{spec: l.spec, output: &tail{}, clean: l.clean, said: make(chan struct{}), settled: make(chan struct{}), exited: make(chan struct{})}
	address := netlab.Gateway
	if l.spec.Endpoint != nil {
		address = l.spec.Endpoint.Addr
	}
	i.Addr = netip.AddrPortFrom(address, l.port)
	args := append(append([]string{}, l.spec.Wrap...), l.args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = environment(l.env...)
	cmd.Dir = l.spec.Dir
	// A pipe of our own: a detached container keeps it, and the end of the command
	// is not the end of the output.
	output, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	started := false
	defer func() {
		if !started {
			output.Close()
		}
	}()
	if l.console {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		cmd.Stdin, i.input = r, w
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if l.inGroup {
		group, err := os.Open(l.spec.Group.Path)
		if err != nil {
			return nil, err
		}
		defer group.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	i.stop = func() error {
		i.mu.Lock()
		pid := i.main
		i.mu.Unlock()
		if pid == 0 {
			return nil // not even started: Close kills it
		}
		return l.stop(pid)
	}
	if err := OnCPUs(l.spec.CPUs, func() error {
		i.Started = time.Now()
		return cmd.Start()
	}); err != nil {
		if i.input != nil {
			i.input.Close()
		}
		return nil, fmt.Errorf("start %s: %w", l.args[0], err)
	}
	started = true
	go func() {
		defer close(i.said)
		i.output.follow(output)
	}()
	if !l.detached {
		i.main = cmd.Process.Pid
		close(i.settled)
	}
	go i.wait(cmd, l)
	return i, nil
}

// lastWords is how long the end of its output is waited for when it has ended.
const lastWords = 100 * time.Millisecond

// wait waits for the end of the instance.
func (i *Instance) wait(cmd *exec.Cmd, l launch) {
	defer close(i.exited)
	err := cmd.Wait()
	if l.detached {
		if err == nil {
			err = i.detach(l.find)
		}
		close(i.settled)
		if err == nil {
			err = waitFor(i.Main())
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.asked {
		return
	}
	// What it said last may be on its way; who else has the pipe may keep it.
	select {
	case <-i.said:
	case <-time.After(lastWords):
	}
	switch {
	case err != nil:
		i.err = fmt.Errorf("%s: %w%s", filepath.Base(cmd.Args[0]), err, i.output.last())
	default:
		i.err = fmt.Errorf("it ended by itself%s", i.output.last())
	}
}

// detach finds the process that the command has left behind.
func (i *Instance) detach(find func() (int, error)) error {
	if find == nil {
		find = i.readPID
	}
	pid, err := find()
	if err != nil {
		return err
	}
	i.mu.Lock()
	i.main = pid
	i.mu.Unlock()
	return nil
}

func (i *Instance) readPID() (int, error) {
	text, err := os.ReadFile(filepath.Join(i.spec.Dir, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// waitFor waits for the end of a detached process. It is a child of the bench,
// which inherits the processes of those that end; or of a daemon.
func waitFor(pid int) error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return waitStranger(pid)
		case err != nil:
			return err
		case status.Exited() && status.ExitStatus() == 0:
			return nil
		case status.Signaled():
			return fmt.Errorf("ended by signal %v", status.Signal())
		default:
			return fmt.Errorf("exit status %d", status.ExitStatus())
		}
	}
}

// waitStranger waits for the end of a process that is another's child.
func waitStranger(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return err
		}
	}
}

// Settled is closed when the process that runs the workload is known. A container
// may answer before the command that starts it has ended.
func (i *Instance) Settled() <-chan struct{} { return i.settled }

// Exited is closed when the instance has ended.
func (i *Instance) Exited() <-chan struct{} { return i.exited }

// Err is why it ended; nil when it was asked to. It is for after Exited.
func (i *Instance) Err() error { return i.err }

// Output is the end of what it has printed.
func (i *Instance) Output() string { return i.output.last() }

// Main is the id of the process that runs the workload: the application in a
// container, the monitor of a machine. 0 while it is not known.
func (i *Instance) Main() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.main
}

// Stop asks the instance to end, and waits until it has, for grace at the most:
// then it is killed, and the error says so.
func (i *Instance) Stop(grace time.Duration) error {
	i.mu.Lock()
	i.asked = true
	i.mu.Unlock()
	err := i.stop()
	if err == nil {
		select {
		case <-i.exited:
			return nil
		case <-time.After(grace):
			err = fmt.Errorf("it did not end within %v of being asked to", grace)
		}
	}
	return errors.Join(err, i.kill())
}

func (i *Instance) kill() error {
	i.mu.Lock()
	i.asked = true
	pid := i.main
	i.mu.Unlock()
	err := i.spec.Group.Kill()
	if pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return err
}

// Close removes all that there is of it, still running or not.
func (i *Instance) Close() error {
	var errs []error
	select {
	case <-i.exited:
	default:
		errs = append(errs, i.kill())
	}
	if i.clean != nil {
		errs = append(errs, i.clean())
	}
	if i.input != nil {
		i.input.Close()
	}
	select {
	case <-i.exited:
	case <-time.After(30 * time.Second):
		errs = append(errs, errors.New("its process is left after it was killed"))
	}
	return errors.Join(errs...)
}

// OnCPUs calls f on a thread that may run on some processors only, as may then
// what it starts.
func OnCPUs(cpus []int, f func() error) error {
	if len(cpus) == 0 {
		return f()
	}
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	var before, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	for _, c := range cpus {
		wanted.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return fmt.Errorf("processors %v: %w", cpus, err)
	}
	err := f()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}
