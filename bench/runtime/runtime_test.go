package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"vmm/bench/cgroup"
	"vmm/bench/netlab"
)

func TestEveryNameIsARuntime(t *testing.T) {
	for _, name := range Names {
		for _, app := range BuiltIn {
			r := New(name, Assets(t.TempDir()), app)
			if r == nil {
				t.Fatalf("there is no %s", name)
			}
			d := r.Describe()
			if d.Name != name || d.Kind == "" {
				t.Errorf("%s describes itself as %+v", name, d)
			}
			// Nothing is built here: each says so, and how to get it.
			_, err := r.Find()
			var missing Missing
			if !errors.As(err, &missing) || missing.Get == "" {
				t.Errorf("%s: Find without what it needs: %v", name, err)
			}
		}
	}
	if r := New("lxc", "", BuiltIn[0]); r != nil {
		t.Errorf("there is an lxc: %v", r)
	}
}

// The filter of every container is Docker's, whatever the host has: what is open is
// what takes no capability, and not the rest.
func TestDefaultProfile(t *testing.T) {
	spec, err := (&oci{app: App{User: User{UID: 7, GID: 8, Groups: []uint32{9}}}}).bundle(Spec{Tree: &cgroup.Tree{}, Endpoint: &netlab.Endpoint{}})
	if err != nil {
		t.Fatal(err)
	}
	filter, open := spec.Linux.Seccomp, map[string]bool{}
	for _, s := range filter.Syscalls {
		for _, name := range s.Names {
			open[name] = open[name] || s.Action == specs.ActAllow
		}
	}
	if filter.DefaultAction != specs.ActErrno || !open["read"] || !open["kill"] || open["mount"] || open["bpf"] || open["keyctl"] {
		t.Errorf("default %s; read %v, kill %v, mount %v, bpf %v, keyctl %v", filter.DefaultAction, open["read"], open["kill"], open["mount"], open["bpf"], open["keyctl"])
	}
	if diff := cmp.Diff(specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}, spec.Process.User); diff != "" {
		t.Error(diff)
	}
}

// What an image says is in its initial RAM disk, and never on a kernel's command line,
// where a double quote could make several words of one.
func TestKernelWords(t *testing.T) {
	a := App{Root: "/image", Args: []string{"/bin/app", `x" init=/evil "`}, Env: []string{`A="`}}
	if got, want := a.kernelWords(), " rdinit=/.vmm/init"; got != want {
		t.Errorf("kernelWords() = %q, want %q", got, want)
	}
	if got := (App{}).kernelWords(); got != "" {
		t.Errorf("of a program alone: %q", got)
	}
}

// A program that the bench starts gets a listed environment, and nothing of what
// this process has.
func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	text, err := call("env")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"PATH", "HOME", "LANG"}, names); diff != "" {
		t.Error(diff)
	}
}

// However much an instance says, its end is kept, and no more.
func TestTailIsBounded(t *testing.T) {
	out := &tail{}
	for range 1000 {
		if _, err := out.Write(bytes.Repeat([]byte("x"), 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(out, "\nthe end\n")
	if n := cap(out.bytes()); n > 2*kept {
		t.Errorf("%d bytes are kept, want %d", n, kept)
	}
	if got := out.last(); !strings.HasSuffix(got, "the end") {
		t.Errorf("last() = %q", got)
	}
}

func TestOpenCalls(t *testing.T) {
	allow := func(names ...string) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActAllow}
	}
	filtered := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		allow("read", "write"), allow("read"), {Names: []string{"reboot"}, Action: specs.ActErrno},
	}}
	for want, seccomp := range map[int]*specs.LinuxSeccomp{2: filtered, -1: nil} {
		text, err := json.Marshal(specs.Spec{Linux: &specs.Linux{Seccomp: seccomp}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), configFile)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := OpenCalls(file); err != nil || n != want {
			t.Errorf("OpenCalls: %d, %v, want %d", n, err, want)
		}
	}
}
