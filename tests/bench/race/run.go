package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kind is what a run is for.
type kind int

const (
	warm     kind = iota // for the page cache
	timed                // nothing but the clock
	traceKVM             // with KVM's tracepoints on
	hold                 // with an init that waits
)

func (k kind) String() string { return [...]string{"warm", "timed", "traced", "held"}[k] }

// run is what one run measured. Times count from before fork and exec; what was
// not seen is 0.
type run struct {
	name        string
	kind        kind
	entered     time.Duration // the guest's first instruction
	kernel      time.Duration // the kernel at its own addresses
	init, exit  time.Duration
	cpu         time.Duration // of the monitor's process, with the guest's
	beside, ram int           // KiB: resident, beside guest RAM and of it
}

// mark is the byte that the guest's init writes to its serial port. Kernels are
// started quiet, and firmware that speaks does not say this.
const mark = '!'

// exitLimit is how long a monitor has from there to its end. A monitor that does
// not end with its guest is ended, and has none.
const exitLimit = time.Second

// The word on a contestant's command line that stands for what init is told.
const initWords = "@init"

func (c contestant) run(k kind, memory int, limit time.Duration) (r run, err error) {
	r = run{name: c.name, kind: k}
	words := "serial"
	if k == hold {
		words = "serial hold"
	}
	var args []string
	for _, arg := range c.command {
		args = append(args, strings.ReplaceAll(arg, initWords, words))
	}
	cmd := exec.Command(args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	var t tracer
	if k == traceKVM {
		if err := t.start(); err != nil {
			return r, err
		}
	}
	start := now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	kill := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	seen := new(bytes.Buffer)
	marked := false
	for buf := make([]byte, 4096); !marked; {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if marked = bytes.IndexByte(buf[:n], mark) >= 0; marked {
			r.init = now() - start
			kill.Reset(exitLimit)
		}
		if err != nil {
			break
		}
	}
	if k == hold && marked {
		r.beside, r.ram, err = resident(cmd.Process.Pid, memory)
		_ = cmd.Process.Kill()
	}
	_, _ = io.Copy(io.Discard, out)
	var status *exec.ExitError
	if werr := cmd.Wait(); werr != nil && !errors.As(werr, &status) {
		return r, werr
	}
	if kill.Stop() && k != hold {
		r.exit = now() - start
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if k == traceKVM {
		r.entered, r.kernel, err = t.stop(start)
	}
	if !marked {
		return r, fmt.Errorf("init was not seen; status %d\n%s\n%s", cmd.ProcessState.ExitCode(), &stderr, seen)
	}
	return r, err
}

// now is the clock that the kernel stamps traces with too.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return time.Duration(t.Nano())
}

// resident is the memory of a process in KiB: beside guest RAM, and of guest RAM.
// That is the mapping of its size, or several of that size together: parts of it
// may be mapped from a file.
func resident(pid, size int) (beside, ram int, err error) {
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, 0, err
	}
	var all []mapping
	for line := range strings.Lines(string(smaps)) {
		var m mapping
		var rss int
		if n, _ := fmt.Sscanf(line, "%x-%x ", &m.start, &m.end); n == 2 {
			all = append(all, m)
		} else if n, _ := fmt.Sscanf(line, "Rss: %d kB", &rss); n == 1 && len(all) > 0 {
			all[len(all)-1].rss = rss
		}
	}
	first, last := guestRAM(all, uint64(size)<<10)
	for i, m := range all {
		if i >= first && i < last {
			ram += m.rss
		} else {
			beside += m.rss
		}
	}
	if ram == 0 {
		return 0, 0, fmt.Errorf("no mapping of %d KiB, the guest's RAM", size)
	}
	return beside, ram, nil
}

// mapping is a line of /proc/PID/smaps; rss is in KiB.
type mapping struct {
	start, end uint64
	rss        int
}

// guestRAM is the range of mappings that lie together and have a size.
func guestRAM(all []mapping, size uint64) (first, last int) {
	for i := range all {
		for j := i; j < len(all) && (j == i || all[j].start == all[j-1].end); j++ {
			if all[j].end-all[i].start == size {
				return i, j + 1
			}
		}
	}
	return 0, 0
}
