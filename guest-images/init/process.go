package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// processes are those that this one has started. It reaps them, and the orphans that
// every guest leaves to its first process.
type processes struct {
	mu   sync.Mutex
	ours map[int]*process
	main *process // the guest's own program
	end  func()   // ends all processes but this one
}

// process is a program that runs.
type process struct {
	pid   int
	ended chan unix.WaitStatus // says it once
}

func newProcesses(end func()) *processes {
	all := &processes{ours: map[int]*process{}, end: end}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			all.reap()
		}
	}()
	return all
}

// reap takes the statuses of all that have ended.
func (all *processes) reap() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if p := all.ours[pid]; p != nil {
			delete(all.ours, pid)
			p.ended <- status
		}
	}
}

// kill sends a program a signal, unless it has ended: its number may be another's.
func (all *processes) kill(p *process, s unix.Signal) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	if p == nil || all.ours[p.pid] != p {
		return unix.ESRCH
	}
	return unix.Kill(p.pid, s)
}

// killMain sends the guest's own program a signal.
func (all *processes) killMain(s unix.Signal) error {
	all.mu.Lock()
	p := all.main
	all.mu.Unlock()
	return all.kill(p, s)
}

// statusOf is the exit status that stands for how a program ended, as in a shell.
func statusOf(w unix.WaitStatus) uint8 {
	if w.Signaled() {
		return uint8(min(statusBySignal+int(w.Signal()), statusOutOfRange))
	}
	return uint8(w.ExitStatus())
}

// notExecuted is why a program does not run, and the exit status for it.
type notExecuted struct {
	Status uint8
	Why    string
}

func (n notExecuted) Error() string { return n.Why }

// start executes a program: a copy of this one, which then becomes it. It returns when
// that has succeeded, or else with an error of type notExecuted.
func (all *processes) start(p protocol.Process, files [3]*os.File, main bool) (*process, error) {
	var given, told [2]int // to the copy, and from it
	if err := errors.Join(unix.Pipe2(given[:], unix.O_CLOEXEC), unix.Pipe2(told[:], unix.O_CLOEXEC)); err != nil {
		return nil, err
	}
	tell, answer := os.NewFile(uintptr(given[1]), "pipe"), os.NewFile(uintptr(told[0]), "pipe")
	spec, say := os.NewFile(uintptr(given[0]), "pipe"), os.NewFile(uintptr(told[1]), "pipe")
	defer func() {
		for _, f := range []*os.File{tell, answer, spec, say} {
			f.Close()
		}
	}()
	attributes := &os.ProcAttr{
		Files: []*os.File{files[0], files[1], files[2], spec, say},
		Env:   []string{},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: p.Terminal},
	}
	started := &process{ended: make(chan unix.WaitStatus, 1)}
	all.mu.Lock()
	child, err := os.StartProcess("/proc/self/exe", []string{stageName}, attributes)
	if err == nil {
		started.pid = child.Pid
		all.ours[child.Pid] = started
		if main {
			all.main = started
		}
		_ = child.Release() // it is reaped here
	}
	all.mu.Unlock()
	if err != nil {
		return nil, err
	}
	spec.Close()
	say.Close()
	if err := json.NewEncoder(tell).Encode(p); err != nil {
		return nil, fmt.Errorf("tell the new process: %w", err)
	}
	tell.Close()
	why, err := io.ReadAll(answer)
	if err != nil {
		return nil, err
	}
	if len(why) == 0 {
		return started, nil // the pipe was closed by the execution
	}
	var not notExecuted
	if err := json.Unmarshal(why, &not); err != nil {
		return nil, fmt.Errorf("the new process says %.100q", why)
	}
	<-started.ended
	return nil, not
}

// failure is the exit status and text for an error of start.
func failure(err error) (uint8, string) {
	var not notExecuted
	if errors.As(err, &not) {
		return not.Status, not.Why
	}
	return statusFailed, err.Error()
}
