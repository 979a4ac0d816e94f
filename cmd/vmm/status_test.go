package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// vmm runs a command line as a user does, in a folder with the kernels of
// writeKernels, and returns the exit status and what came on standard error.
func vmm(t *testing.T, dir string, args ...string) (status int, stderr string) {
	t.Helper()
	cmd := exec.Command("vmm", args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func kernelDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := writeKernels(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A value that a flag cannot have is wrong usage, as is a flag that does not exist.
func TestMisuse(t *testing.T) {
	dir := kernelDir(t)
	for _, args := range []string{
		"--kernal x", "hello", "--cpus two", "--cpus 0", "--memory abc", "--memory 100", "--memory 900T",
		"--timeout 30", "--timeout=-1s", "--disk nope.img", "--disk path=x,iops=many", "--net tap0", "--share path=.",
		"--vsock cid=2,uds=x", "--balloon size=1T", "--console screen", "--debug-exit=0x10000", "--debug-exit=70000",
		"--paused", "--wait-gdb", "--gdb tcp:nowhere", "--trace-format jsonl", "--boot-protocol uefi", "--profile-rate 0",
		"--debug-exit --cpus two",
	} {
		t.Run(args, func(t *testing.T) {
			status, stderr := vmm(t, dir, append([]string{"boot", "--kernel", "hello"}, strings.Fields(args)...)...)
			if status != 2 || strings.Count(stderr, "\n") != 1 {
				t.Errorf("status %d, %q; want 2 and a line", status, stderr)
			}
		})
	}
}

// A flag that is given twice says so, whatever values it takes.
func TestRepeatedFlagSaysSo(t *testing.T) {
	dir := kernelDir(t)
	for _, args := range []string{"--timeout 1s --timeout 2s", "--cpus 1 --cpus 2", "--memory 64M --memory 64M"} {
		t.Run(args, func(t *testing.T) {
			status, stderr := vmm(t, dir, append([]string{"boot", "--kernel", "hello"}, strings.Fields(args)...)...)
			if status != 2 || !strings.Contains(stderr, "given twice") {
				t.Errorf("status %d, %q; want 2 and that it was given twice", status, stderr)
			}
		})
	}
}

// With --debug-exit, a guest sets every odd status, and vmm's own are even.
func TestDebugExitStatus(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil && os.Getenv("VMM_REQUIRE_KVM") == "" {
		t.Skip("no /dev/kvm")
	}
	dir := kernelDir(t)
	for _, tt := range []struct {
		args string
		want int
	}{
		{"--kernel debugexit --debug-exit", 0x15<<1 | 1},
		{"--kernel exit-byte --debug-exit=0x501", 0x21<<1 | 1},
		{"--kernel exit-word --debug-exit=0x501", 0x43<<1 | 1},
		{"--kernel exit-long --debug-exit=1281", 0x12<<1 | 1},
		{"--kernel hello --debug-exit", 0},
		{"--kernel absent --debug-exit", 4},
		{"--kernel jpeg --debug-exit", 4},
		{"--kernel hello --debug-exit --disk path=absent", 4},
		{"--kernel hello --debug-exit=0x3f8", 4}, // taken
		{"--kernel triple --debug-exit", 6},
		{"--kernel panic --debug-exit", 6},
		{"--kernel spin --debug-exit --timeout 100ms", 124},
	} {
		t.Run(tt.args, func(t *testing.T) {
			status, stderr := vmm(t, dir, append([]string{"boot", "--memory", "64M"}, strings.Fields(tt.args)...)...)
			if status != tt.want {
				t.Errorf("status %d, want %d: %s", status, tt.want, stderr)
			}
		})
	}
}
