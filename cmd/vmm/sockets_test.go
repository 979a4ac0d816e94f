package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// descriptors are the descriptors of a process, each with what it leads to.
func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			all = append(all, e.Name()+" "+to)
		}
	}
	slices.Sort(all)
	return all
}

// sendRights connects and sends text with descriptors, which no protocol of vmm's
// asks for.
func sendRights(t *testing.T, path, text string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	rights := unix.UnixRights(slices.Repeat([]int{int(null.Fd())}, 100)...)
	// It may have hung up already.
	if err := unix.Sendmsg(fd, []byte(text), rights, nil, unix.MSG_NOSIGNAL); err != nil && err != unix.EPIPE && err != unix.ECONNRESET {
		t.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000})
	_, _ = unix.Read(fd, make([]byte, 4096)) // an answer, a hang-up, or neither
}

// Whatever comes over the sockets, the process's descriptors are the same before
// and after.
func TestSocketDescriptors(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil && os.Getenv("VMM_REQUIRE_KVM") == "" {
		t.Skip("no /dev/kvm")
	}
	dir := kernelDir(t)
	// One that is not silent: beside a silent one, vmm measures the host, with descriptors
	// of its own.
	cmd := exec.Command("vmm", "boot", "--kernel", "chatter", "--memory", "64M", "--control", "control", "--gdb", "gdb", "--vsock", "cid=3,uds=vsock")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	}()
	status := func() error {
		_, err := exec.Command("vmm", "ctl", filepath.Join(dir, "control"), "status").Output()
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); status() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the machine does not start")
		}
	}
	settled := func(want []string) []string {
		got := descriptors(t, cmd.Process.Pid)
		for deadline := time.Now().Add(20 * time.Second); !slices.Equal(got, want) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			got = descriptors(t, cmd.Process.Pid)
		}
		return got
	}
	// The connection of the last status has yet to go.
	before := descriptors(t, cmd.Process.Pid)
	for again := true; again; {
		time.Sleep(200 * time.Millisecond)
		now := descriptors(t, cmd.Process.Pid)
		before, again = now, !slices.Equal(before, now)
	}

	for _, name := range []string{"control", "gdb", "vsock"} {
		for _, text := range []string{
			"x", "\n", "{", `{"command":"status"}` + "\n", `{"command":"status"`, "null\n", "[]\n\x00\xff\n", strings.Repeat("y", 10_000),
			"$?#3f", "$qSupported#37$?#3f", "+$g#67", "\x03", "$" + strings.Repeat("z", 20_000), "POST / HTTP/1.1\r\n\r\n",
			"CONNECT 1\n", "CONNECT 99999999999\n", "CONNECT", "connect 5\n",
		} {
			sendRights(t, filepath.Join(dir, name), text)
		}
	}

	if diff := cmp.Diff(before, settled(before)); diff != "" {
		t.Errorf("descriptors (-before +after):\n%s", diff)
	}
	if err := status(); err != nil {
		t.Errorf("the machine does not answer any more: %v", err)
	}
}

// Without a device that leads outside, nothing does: no socket, no network's
// process, and a control socket is all that is there with one.
func TestNoNetwork(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil && os.Getenv("VMM_REQUIRE_KVM") == "" {
		t.Skip("no /dev/kvm")
	}
	dir := kernelDir(t)
	cmd := exec.Command("vmm", "boot", "--kernel", "chatter", "--memory", "64M", "--console", "virtio", "--balloon", "--disk", "path=initrd,ro")
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil { // the guest runs
		t.Fatal(err)
	}

	for _, d := range descriptors(t, cmd.Process.Pid) {
		if strings.Contains(d, "socket:") || strings.Contains(d, "/dev/net") || strings.Contains(d, "vhost") {
			t.Errorf("a way outside: %s", d)
		}
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err == nil && len(children) > 0 {
		t.Errorf("it has started other processes: %s", children)
	}
}
