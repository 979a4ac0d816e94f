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

// usage is what a thread has used.
type usage struct {
	vcpu bool          // it runs the guest's processor, which the guest's timers wake
	busy time.Duration // on a processor, the guest's part included
	runs int64         // how often it was given one
}

// watchIdle looks at a process for a while, after a second in which the guest
// comes to rest. What other processes do for the monitor is not counted.
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
	var wakeups, vcpuWakeups int64
	var busy time.Duration
	for thread, u := range after { // one that has ended counts no more
		u.runs -= before[thread].runs
		busy += u.busy - before[thread].busy
		if u.vcpu {
			vcpuWakeups += u.runs
		} else {
			wakeups += u.runs
		}
	}
	return []sample{
		{job: "idle-wakeups", value: float64(wakeups)},
		{job: "idle-vcpu-wakeups", value: float64(vcpuWakeups)},
		{job: "idle-cpu", value: 100 * busy.Seconds() / idleTime.Seconds()},
	}, nil
}

// look is what /proc says of a process's threads. proc(5): syscall begins with
// the number of the system call that a thread is in, and a vCPU is in ioctl;
// schedstat is the time on a processor in nanoseconds, the time waiting for one,
// and how often it was given one.
func look(pid int) (map[string]usage, error) {
	const ioctl = "16"
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return nil, err
	}
	threads := make(map[string]usage)
	for _, task := range tasks {
		call, err := os.ReadFile(filepath.Join(task, "syscall"))
		if err != nil {
			continue // it has just ended
		}
		stat, err := os.ReadFile(filepath.Join(task, "schedstat"))
		if err != nil {
			continue
		}
		var busy, waited, runs int64
		if _, err := fmt.Sscan(string(stat), &busy, &waited, &runs); err != nil {
			return nil, fmt.Errorf("%s: %w", task, err)
		}
		number, _, _ := strings.Cut(string(call), " ")
		threads[task] = usage{vcpu: number == ioctl || number == "running\n", busy: time.Duration(busy), runs: runs}
	}
	return threads, nil
}
