// Command init is the first process of a guest that runs a container image:
// bin/vmm-init. It mounts what a container has, sets the network up, executes the
// program that a specification in the initial RAM disk describes, and switches the
// machine off when that has ended. docs/run.md describes what it and the host say to
// each other.
//
// It is executed a second time for each program, to become it: what a process may
// and may not do is set by the process itself.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// Exit statuses where there is none of the program's: those of shells and containers.
const (
	statusFailed     = 125 // of the guest itself
	statusNoExecute  = 126
	statusNotFound   = 127
	statusBySignal   = 128 // and the signal's number
	statusOutOfRange = 255
)

func main() {
	if len(os.Args) > 0 && os.Args[0] == stageName {
		runtime.LockOSThread() // what is set is the thread's, which then becomes the program
		becomeProgram()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "vmm-init: it is the first process of a guest of 'vmm run', and nothing else")
		os.Exit(2)
	}
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	if err := start(); err != nil {
		say(err)
	}
	powerOff()
}

// say tells whoever reads the console.
func say(err error) { fmt.Fprintf(os.Stderr, "vmm-init: %v\n", err) }

// start makes the guest what its specification says, and runs its program to the end.
func start() error {
	spec, err := readSpec()
	if err != nil {
		return fmt.Errorf("the specification %s: %w", protocol.SpecPath, err)
	}
	if err := loadModules("/" + protocol.ModulesPath); err != nil {
		say(err) // a driver that is not needed, perhaps
	}
	setUpErr := setUp(spec)
	var host *session
	if spec.Session {
		if host, err = dial(); err != nil {
			return fmt.Errorf("the host: %w", err)
		}
		defer host.end()
	}
	if setUpErr != nil {
		return host.fail(setUpErr)
	}
	all := newProcesses(killAll)
	if spec.Session {
		go func() { say(serve(all)) }()
		return host.run(all, spec.Process, true)
	}
	return onConsole(all, spec.Process)
}

func readSpec() (*protocol.Spec, error) {
	f, err := os.Open("/" + protocol.SpecPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return protocol.ReadSpec(f)
}

// onConsole runs the program on the console, where its end is told, too.
func onConsole(all *processes, p protocol.Process) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	started, err := all.start(p, [3]*os.File{null, os.Stdout, os.Stderr}, true)
	if err != nil {
		return err
	}
	if status := statusOf(<-started.ended); status != 0 {
		fmt.Fprintf(os.Stderr, "vmm-init: the program ended with status %d\n", status)
	}
	return nil
}

// killAll ends all processes but this one.
func killAll() { _ = unix.Kill(-1, unix.SIGKILL) }

// powerOff ends the machine.
func powerOff() {
	// What is left of the program's: with it, files that are being written.
	killAll()
	unix.Sync()
	for {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // a machine that cannot be switched off
		time.Sleep(time.Second)
	}
}
