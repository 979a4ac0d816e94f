package sandbox

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// assembled is a filter as the kernel has it.
func assembled(t *testing.T, g Group) []unix.SockFilter {
	t.Helper()
	raw, err := bpf.Assemble(filter(g, testPID))
	if err != nil {
		t.Fatal(err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return program
}

// What a filter may let through is what the list says, and nothing else.
func TestMayAllow(t *testing.T) {
	for _, g := range []Group{Machine, Machine | Disk | Tap, Network, ^Group(0)} {
		program := assembled(t, g)
		var got, want []string
		for nr, name := range names {
			if name != "" && mayAllow(program, uint32(nr)) {
				got = append(got, name)
			}
		}
		for _, c := range Calls(g) {
			want = append(want, c.Name)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("group %#x: %s", g, diff)
		}
	}
}

// The kernel's own copy of the filter of a process says the same.
func TestAllowed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("reading filters takes root")
	}
	if calls, filtered, err := Allowed(os.Getpid()); filtered || err == nil && calls != nil {
		t.Errorf("of a process without filters: %v, %v, %v", calls, filtered, err)
	}
	cmd := start(t, caged{Mode: Strict, Needs: Needs{Groups: Machine | Disk | Tap}, Act: "wait"})
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, fmt.Sprintf("/proc/%d/status", cmd.Process.Pid), "Seccomp:\t2")
	got, filtered, err := Allowed(cmd.Process.Pid)
	if err != nil || !filtered {
		t.Fatal(filtered, err)
	}
	var want []string
	for _, c := range Calls(Machine | Disk | Tap) {
		want = append(want, c.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
