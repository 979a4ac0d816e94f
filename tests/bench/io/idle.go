package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// idleTime is how long a monitor is watched while its guest sleeps.
const idleTime = 10 * time.Second

// usage is what a process has used.
type usage struct {
	// wakeups are how often its threads were given a processor. Those that
	// run a vCPU count apart: the guest's timers wake them.
	wakeups, cpuWakeups float64
	// busy is the processor time that all its threads took, guests included.
	busy time.Duration
}

// watchIdle looks at a process for a while, after a second in which the guest
// comes to rest.
func watchIdle(pid int) ([]sample, error) {
	time.Sleep(time.Second)
	before, err := look(pid)
	if err != nil {
		return nil, err
	}
	time.Sleep(idleTime)
	after, err := look(pid)
	if err != nil {
		return nil, err
	}
	return []sample{
		{job: "idle-wakeups", value: after.wakeups - before.wakeups},
		{job: "idle-vcpu-wakeups", value: after.cpuWakeups - before.cpuWakeups},
		{job: "idle-cpu", value: 100 * (after.busy - before.busy).Seconds() / idleTime.Seconds()},
	}, nil
}

// look adds up what /proc says of a process's threads. proc(5): syscall begins
// with the number of the system call that a thread is in, and a vCPU is in
// ioctl; schedstat is the time on a processor in nanoseconds, the time waiting
// for one, and how often it was given one.
func look(pid int) (usage, error) {
	const ioctl = "16"
	var u usage
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return u, err
	}
	for _, task := range tasks {
		call, err := os.ReadFile(filepath.Join(task, "syscall"))
		if err != nil {
			return u, err
		}
		stat, err := os.ReadFile(filepath.Join(task, "schedstat"))
		if err != nil {
			return u, err
		}
		var busy, waited, runs int64
		if _, err := fmt.Sscan(string(stat), &busy, &waited, &runs); err != nil {
			return u, fmt.Errorf("%s: %w", task, err)
		}
		u.busy += time.Duration(busy)
		if number, _, _ := strings.Cut(string(call), " "); number == ioctl || number == "running\n" {
			u.cpuWakeups += float64(runs)
		} else {
			u.wakeups += float64(runs)
		}
	}
	return u, nil
}
