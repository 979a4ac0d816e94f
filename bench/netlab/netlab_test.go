package netlab

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A client's own port is never one at which a process is to listen.
func TestClientsLeavePortsToProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network takes root")
	}
	runtime.LockOSThread() // which ends with the test: it has another network
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := Setup(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil || strings.TrimSpace(string(text)) != "20000-20999" {
		t.Errorf("reserved: %q, %v", text, err)
	}
	for i := range 3 * MaxInstances {
		if p := Port(i); p < 20000 || p > 20999 {
			t.Fatalf("Port(%d) = %d", i, p)
		}
	}
}
