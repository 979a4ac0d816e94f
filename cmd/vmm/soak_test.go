package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each way in which a machine ends, as often as VMM_SOAK says: each time with the
// status that belongs to it, and in the end nothing is left of any: no process, no
// file, no mount, no network device. It takes VMM_BIN, the program as it is
// installed, and root.
func TestSoakEnds(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("VMM_SOAK"))
	if n == 0 {
		t.Skip("only with make soak")
	}
	program := filepath.Join(t.TempDir(), "vmm-soak") // a name of its own, to be found by
	data, err := os.ReadFile(os.Getenv("VMM_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, temporary := t.TempDir(), t.TempDir()
	if err := writeKernels(dir); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, kernel string
		flags        []string
		during       func(t *testing.T, cmd *exec.Cmd) // once the machine runs
		status       int
	}{
		{"power-off", "hello", nil, nil, 0},
		{"reset", "reset", nil, nil, 0},
		{"triple fault", "triple", nil, nil, 3},
		{"panic", "panic", nil, nil, 3},
		{"debug exit", "debugexit", []string{"--debug-exit"}, nil, 0x15<<1 | 1},
		{"timeout", "spin", []string{"--timeout", "100ms"}, nil, 124},
		{"SIGTERM", "spin", nil, send(syscall.SIGTERM), 143},
		{"kill -9", "spin", nil, send(syscall.SIGKILL), -1},
		{"console gone", "chatter", nil, nil, 1},
		{"tap taken away", "spin", []string{"--net", "tap=soak0"}, func(t *testing.T, cmd *exec.Cmd) {
			if out, err := exec.Command("ip", "link", "del", "soak0").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			time.Sleep(10 * time.Millisecond) // for vmm to notice
			send(syscall.SIGTERM)(t, cmd)
		}, 143},
	}
	before := left(t, program, temporary)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range n {
				control := filepath.Join(dir, "control")
				args := append([]string{"boot", "--kernel", filepath.Join(dir, tt.kernel), "--memory", "64M", "--disk", "path=" + disk, "--control", control}, tt.flags...)
				cmd := exec.Command(program, args...)
				cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
				if tt.kernel == "chatter" {
					full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer full.Close()
					cmd.Stdout = full
				}
				if tt.name == "tap taken away" {
					if out, err := exec.Command("ip", "tuntap", "add", "soak0", "mode", "tap", "vnet_hdr").CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
				}
				var said strings.Builder
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if tt.during != nil {
					listening(t, control)
					tt.during(t, cmd)
				}
				var exit *exec.ExitError
				if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
					t.Fatal(err)
				}
				if got := cmd.ProcessState.ExitCode(); got != tt.status {
					t.Fatalf("time %d: exit status %d; want %d\n%s", i, got, tt.status, &said)
				}
				// Of one that was killed, the socket is left: the next takes its place.
				if _, err := os.Stat(control); err == nil && tt.status != -1 {
					t.Fatalf("time %d: the control socket is left", i)
				}
			}
			t.Logf("%d times", n)
			if after := left(t, program, temporary); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func send(signal syscall.Signal) func(*testing.T, *exec.Cmd) {
	return func(t *testing.T, cmd *exec.Cmd) {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
}

// listening waits until vmm listens at its control socket.
func listening(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := exec.Command(os.Getenv("VMM_BIN"), "ctl", path, "status").Output()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens at %s: %v", path, err)
		}
	}
}

// left is what machines could leave behind, as text to compare.
func left(t *testing.T, program, temporary string) string {
	t.Helper()
	var b strings.Builder
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		if target, err := os.Readlink(exe); err == nil && strings.HasPrefix(target, program) {
			fmt.Fprintln(&b, "process", exe)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, "mounts", strings.Count(string(mounts), "\n"))
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&b, "network device", l.Name())
	}
	files, err := os.ReadDir(temporary)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		fmt.Fprintln(&b, "file", f.Name())
	}
	return b.String()
}
