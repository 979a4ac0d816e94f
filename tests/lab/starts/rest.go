package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/bench/cgroup"
)

// watched is how long idle machines are watched before something starts beside them.
const watched = 20 * time.Second

// activity is what machines have asked of their host.
type activity struct {
	exits    int           // of their vCPUs
	switches int           // of their threads, away from a processor
	cpu      time.Duration // their threads' processor time
}

// idle are machines that have nothing to do.
type idle struct {
	groups []cgroup.Group
	debug  string // where debugfs is mounted
	seen   []activity
	since  time.Time
}

// watch begins to watch idle machines.
func watch(groups []cgroup.Group) (*idle, error) {
	debug, err := os.MkdirTemp("", "starts-debug-")
	if err != nil {
		return nil, err
	}
	w := &idle{groups: groups, debug: debug}
	if err := unix.Mount("debugfs", debug, "debugfs", 0, ""); err != nil {
		return nil, errors.Join(fmt.Errorf("mount debugfs: %w", err), os.Remove(debug))
	}
	_, err = w.look()
	return w, err
}

func (w *idle) Close() error {
	return errors.Join(unix.Unmount(w.debug, unix.MNT_DETACH), os.Remove(w.debug))
}

// look says what an idle machine has done since the last look: the average of all.
func (w *idle) look() (string, error) {
	var total activity
	seen, now := make([]activity, len(w.groups)), time.Now()
	for i, g := range w.groups {
		a, err := active(g, w.debug)
		if err != nil {
			return "", err
		}
		seen[i] = a
		if w.seen != nil {
			before := w.seen[i]
			total.exits += a.exits - before.exits
			total.switches += a.switches - before.switches
			total.cpu += a.cpu - before.cpu
		}
	}
	n, seconds := len(w.groups), now.Sub(w.since).Seconds()
	w.seen, w.since = seen, now
	return fmt.Sprintf("each of %d idle machines, in %.1f s: %d exits, %d context switches, %v of processor time",
		n, seconds, total.exits/n, total.switches/n, (total.cpu / time.Duration(n)).Round(time.Millisecond)), nil
}

var switches = regexp.MustCompile(`(?m)voluntary_ctxt_switches:\s*(\d+)$`)

// active adds up what the processes of a machine have done. Exits are KVM's statistics,
// in debugfs; the rest is of proc(5).
func active(g cgroup.Group, debug string) (a activity, err error) {
	pids, err := g.Processes()
	if err != nil {
		return a, err
	}
	number := func(path string, text string) int {
		n, bad := strconv.Atoi(strings.TrimSpace(text))
		if bad != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", path, bad))
		}
		return n
	}
	machines := 0
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, task := range tasks {
			status, gone := os.ReadFile(task + "/status")
			stat, goneToo := os.ReadFile(task + "/schedstat")
			if errors.Is(errors.Join(gone, goneToo), fs.ErrNotExist) {
				continue // a thread that has just ended
			}
			for _, m := range switches.FindAllStringSubmatch(string(status), -1) {
				a.switches += number(task, m[1])
			}
			ns, _, _ := strings.Cut(string(stat), " ")
			a.cpu += time.Duration(number(task, ns))
			// KVM names a machine by the thread that made it.
			vms, _ := filepath.Glob(fmt.Sprintf("%s/kvm/%s-*/exits", debug, filepath.Base(task)))
			for _, path := range vms {
				text, bad := os.ReadFile(path)
				if bad != nil {
					return a, bad
				}
				a.exits += number(path, string(text))
				machines++
			}
		}
	}
	if machines != 1 {
		return a, fmt.Errorf("%s: KVM has statistics of %d machines; want 1", g.Path, machines)
	}
	return a, err
}
