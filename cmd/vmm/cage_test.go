package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/control"
	"vmm/sandbox"
	"vmm/tools"
)

// needCage skips where nothing can be caged.
func needCage(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/kvm"); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if missing := sandbox.Missing(); missing != nil {
		t.Skip(missing)
	}
}

// A user who is not root has all that is about a machine, in the whole cage: sockets,
// disks, folders, networks, files that are written at the end.
func TestUserCage(t *testing.T) {
	needCage(t)
	if os.Getuid() != 0 {
		t.Skip("becoming another user takes root; every other test is this one then")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("/tmp", "cage") // which that user finds
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	err = errors.Join(writeKernels(dir), os.Mkdir(filepath.Join(dir, "src"), 0o777), os.WriteFile(filepath.Join(dir, "disk"), make([]byte, 1<<20), 0o666),
		os.Chmod(filepath.Join(dir, "src"), 0o777), os.Chmod(filepath.Join(dir, "disk"), 0o666), os.Chmod(dir, 0o777))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vmm", tools.Name} { // where that user finds them, too
		program, err := exec.LookPath(name)
		if err == nil {
			var text []byte
			if text, err = os.ReadFile(program); err == nil {
				err = os.WriteFile(filepath.Join(dir, name), text, 0o755)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Opening /dev/kvm takes this capability, which the cage takes away again.
	user := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_DAC_OVERRIDE}}
	for _, kernel := range []string{"hello", "chatter"} {
		cmd := exec.Command(filepath.Join(dir, "vmm"), "boot", "--kernel", kernel, "--memory", "64M", "--sandbox=strict", "--cpus", "2", "--no-cache", "--balloon",
			"--disk", "path=disk", "--share", "path=src,tag=a", "--net", "user", "--vsock", "cid=5,uds=v.sock", "--control", "c.sock",
			"--gdb", "g.sock", "--timeline", "t.json", "--trace", "t.txt", "--profile", "p.txt")
		cmd.Dir, cmd.SysProcAttr = dir, user
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kernel == "chatter" {
			path := filepath.Join(dir, "c.sock")
			for err := error(unix.ENOENT); err != nil; {
				time.Sleep(10 * time.Millisecond)
				if cmd.Process.Signal(syscall.Signal(0)) != nil {
					break
				}
				_, err = ask[sandbox.Cage](path, control.Request{What: inspectSandbox})
			}
			for _, command := range []string{control.Pause, control.ShowAll, control.Resume, control.Stop} {
				if _, err := control.Call(path, control.Request{Command: command}); err != nil {
					t.Errorf("%s: %v", command, err)
				}
			}
		}
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("%s: %v, and said %q", kernel, err, &stderr)
		}
		for _, name := range []string{"c.sock", "g.sock", "v.sock"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s is still there", name)
			}
		}
		for _, name := range []string{"t.json", "t.txt"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v, or empty", name, err)
			}
		}
	}
}

// The process that takes a guest's packets apart is in a cage, too, all of its
// threads, before the guest runs.
func TestNetworkCage(t *testing.T) {
	needCage(t)
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
