package virtio_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// An idle machine whose driver asks for something now and then wakes few threads for
// it, on a host of one processor too: the worker, Go's monitor, which takes the
// worker's P away, and whom they wake.
func TestRareRequests(t *testing.T) {
	const isWorker = "VMM_TEST_WORKER"
	if os.Getenv(isWorker) != "" {
		serveRare(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRareRequests$")
	cmd.Env = append(os.Environ(), isWorker+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	startOnOneProcessor(t, cmd)
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	fd, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	doorbell := eventOf(t, cmd.Process.Pid, fd)
	defer unix.Close(doorbell)
	time.Sleep(100 * time.Millisecond) // for the end of its start

	// A busy machine makes some of 4. Where the monitor is kept from its sleep, there
	// are more than 50.
	const requests, limit = 20, 20
	before := contextSwitches(t, cmd.Process.Pid)
	for range requests {
		if _, err := unix.Write(doorbell, []byte{1, 7: 0}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	each := float64(contextSwitches(t, cmd.Process.Pid)-before) / requests
	t.Logf("%.1f context switches a request", each)
	if each < 1 || each > limit {
		t.Errorf("%.1f context switches a request; want 1 to %d", each, limit)
	}
}

// serveRare is the process with the worker: it says which descriptor is the doorbell,
// and ends with its input.
func serveRare(t *testing.T) {
	d := virtiotest.Start(t, &echo{inactive: true}, 0)
	r := d.Rings[0]
	doorbell, err := devices.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer doorbell.Close()
	q, err := virtio.NewQueue(d.Memory, virtio.QueueConfig{Size: uint16(r.Size), Desc: r.Desc, Avail: r.Avail, Used: r.Used}, doorbell, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := virtio.StartWorker(q, func() {})
	defer w.Stop()
	fmt.Println(doorbell.FD())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startOnOneProcessor starts a command that sees a host of one processor.
func startOnOneProcessor(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &all) }()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// eventOf is an eventfd of a child.
func eventOf(t *testing.T, pid, fd int) int {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal("pidfd_open:", err)
	}
	defer unix.Close(process)
	event, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		t.Fatal("pidfd_getfd:", err)
	}
	return event
}

var switchesLine = regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s*(\d+)$`)

// contextSwitches is how often threads of a process have gone to sleep. proc(5).
func contextSwitches(t *testing.T, pid int) (n int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		status, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range switchesLine.FindAllStringSubmatch(string(status), -1) {
			k, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	return n
}
