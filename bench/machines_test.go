//go:build lab

package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vmm/bench/result"
)

// machines are the runtimes that take a kernel at full speed, or an engine.
const machines = "vm,unikernel,qemu-microvm,podman"

// realAssets is what guest-images/bench has built. Its machines take a host whose KVM
// runs Linux: tests/bench/suite/run runs these tests on one.
func realAssets(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("VMM_BENCH_ASSETS")
	if dir == "" {
		t.Fatal("VMM_BENCH_ASSETS is not set; run it with 'make test-bench'")
	}
	return dir
}

func TestMachinesLeaveNothing(t *testing.T) {
	dir := realAssets(t)
	program(t)
	leavesNothing(t)
	run, _ := measure(t, dir, "--suite", "start", "--runtimes", machines, "--app", "rest-c", "--parallel", "1,2", "--timeout", "2m")
	for _, f := range run.Failures {
		t.Errorf("%s: %s", f.Trial, f.Message)
	}
	for _, s := range run.Subjects {
		if one, two := run.Values("start", s, "http", 1), run.Values("start", s, "http", 2); len(one) != 1 || len(two) != 2 {
			t.Errorf("%s: %d starts alone and %d of two at once have a time", s.Name(), len(one), len(two))
		}
	}
}

func TestMachinesThatAreNotReadyLeaveNothing(t *testing.T) {
	dir := realAssets(t)
	program(t)
	leavesNothing(t)
	run, said := measureTo(t, 1, dir, "--suite", "start", "--runtimes", machines, "--app", "rest-c", "--parallel", "1", "--timeout", "10ms")
	for _, s := range run.Subjects {
		if !strings.Contains(said, s.Runtime+" (rest-c): start: not ready within 10ms") {
			t.Errorf("the table does not say of %s that it was not ready:\n%s", s.Name(), said)
		}
	}
}

func TestInterruptedMachinesLeaveNothing(t *testing.T) {
	dir := realAssets(t)
	program(t)
	for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "kill -9": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			before := traces(t)
			out := filepath.Join(t.TempDir(), "out")
			cmd := start(t, dir, out, machines)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if signal == syscall.SIGKILL { // the next run removes what is left
				measure(t, dir, "--suite", "start", "--runtimes", "process", "--app", "rest-c", "--parallel", "1")
			}
			expectTraces(t, before)
		})
	}
}

// A machine whose application ends in the middle of the load switches itself off.
func TestMachineThatEndsWhileItIsMeasured(t *testing.T) {
	dir := realAssets(t)
	program(t)
	leavesNothing(t)
	broken := assets(t, "fine", "dies")
	initrd, err := exec.Command("../guest-images/initramfs/app", service(t, "dies")).Output()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := filepath.EvalSymlinks(filepath.Join(dir, "kernel", "vmlinux"))
	if err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"kernel/vmlinux": kernel, "initramfs/rest-c.cpio": strings.TrimSpace(string(initrd))} {
		path := filepath.Join(broken, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	run, said := measure(t, broken, "--suite", "start,rest", "--runtimes", "vm,process", "--parallel", "1", "--timeout", "2m")
	if !strings.Contains(said, "vm (rest-c): rest: ") || !strings.Contains(said, "ended while it was measured") {
		t.Errorf("the table does not say that the machine ended:\n%s", said)
	}
	process := result.Subject{Runtime: "process", App: "rest-go"}
	if len(run.Values("rest", process, "requests", -1)) == 0 {
		t.Error("the rest did not go on")
	}
}

func TestImageInAMachine(t *testing.T) {
	dir := realAssets(t)
	program(t)
	leavesNothing(t)
	run, _ := measure(t, dir, "--image", container(t, "srv/service", "service"), "--ready", "http://:8080/", "--suite", "start", "--cold", "--pin", "1",
		"--runtimes", "vm,qemu-microvm,podman,crun", "--parallel", "1", "--timeout", "2m")
	for _, s := range run.Subjects {
		if n := len(run.Values("start", s, "http", 1)); n != 1 {
			t.Errorf("%s: %d starts, want 1; failures: %+v", s.Name(), n, run.Failures)
		}
	}
	if !run.Config.Cold || len(run.Config.WorkCPUs) != 1 || run.Config.WorkCPUs[0] != 1 {
		t.Errorf("--cold and --pin 1: %+v", run.Config)
	}
}
