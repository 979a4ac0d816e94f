package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmm/sandbox"
)

// The process that takes a guest's packets apart is in a cage, too, all of its
// threads, before the guest runs.
func TestNetworkCage(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if missing := sandbox.Missing(); missing != nil {
		t.Skip(missing)
	}
	dir := t.TempDir()
	if err := writeKernels(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("vmm", "boot", "--kernel", filepath.Join(dir, "chatter"), "--memory", "64M", "--net", "user")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadByte(); err != nil { // the guest runs
		t.Fatal(err)
	}
	children, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	threads := 0
	for _, child := range children {
		stat, err := os.ReadFile(child)
		if err != nil || !strings.Contains(string(stat), fmt.Sprintf("(vmm-tools) S %d ", cmd.Process.Pid)) {
			continue
		}
		tasks, err := filepath.Glob(filepath.Join(filepath.Dir(child), "task/*/status"))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			status, err := os.ReadFile(task)
			if err != nil {
				continue // it has ended
			}
			threads++
			for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t0000000000000000\n"} {
				if !strings.Contains(string(status), want) {
					t.Errorf("%s has no %q", task, want)
				}
			}
		}
	}
	if threads < 2 {
		t.Errorf("%d threads of the network were found", threads)
	}
}
