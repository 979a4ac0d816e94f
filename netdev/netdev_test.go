package netdev

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/tools/toolstest"
)

func TestMain(m *testing.M) { os.Exit(toolstest.Run(m.Run)) }

// namespace is a network of the test's own, with a thread in it.
type namespace chan func()

// newNamespace makes one. Without the rights to, the test is skipped, except
// where it must not be.
func newNamespace(t testing.TB) namespace {
	t.Helper()
	ns := make(namespace)
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		failed <- err
		if err == nil {
			for f := range ns {
				f()
			}
		}
	}()
	if err := <-failed; err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal("a network namespace:", err)
		}
		t.Skip("a network namespace:", err)
	}
	t.Cleanup(func() { close(ns) })
	ns.run(t, "ip link set lo up")
	return ns
}

// do calls f in the namespace: sockets that it makes are there.
func (ns namespace) do(f func()) {
	done := make(chan struct{})
	ns <- func() {
		defer close(done)
		f()
	}
	<-done
}

// run runs a command in the namespace and returns what it writes.
func (ns namespace) run(t testing.TB, line string) string {
	t.Helper()
	var out []byte
	var err error
	ns.do(func() {
		words := strings.Fields(line)
		out, err = exec.Command(words[0], words[1:]...).CombinedOutput()
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// tap opens a tap device in the namespace.
func (ns namespace) tap(t testing.TB, name string, queues int) *Tap {
	t.Helper()
	var tap *Tap
	var err error
	ns.do(func() { tap, err = OpenTap(name, queues, true) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tap.Close() })
	return tap
}
