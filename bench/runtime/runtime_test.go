package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
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

func TestParseProfile(t *testing.T) {
	text := `{
	 "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
	 "syscalls": [
	  {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
	  {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
	  {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
	  {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}},
	  {"names": ["arm_sync_file_range"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
	  {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}}
	 ]}`
	filter, err := parseProfile([]byte(text), []string{"CAP_KILL"}, []specs.Arch{specs.ArchX86_64})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range filter.Syscalls {
		for _, n := range s.Names {
			got = append(got, n+" "+string(s.Action))
		}
	}
	want := []string{"read SCMP_ACT_ALLOW", "write SCMP_ACT_ALLOW", "mount SCMP_ACT_ERRNO", "kill SCMP_ACT_ALLOW", "arch_prctl SCMP_ACT_ALLOW"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if filter.DefaultAction != specs.ActErrno || *filter.DefaultErrnoRet != 38 {
		t.Errorf("otherwise %s, %v", filter.DefaultAction, filter.DefaultErrnoRet)
	}
}

func TestKernelWords(t *testing.T) {
	a := App{Args: []string{"/bin/app", "-v", "two words"}, Env: []string{"PATH=/bin", "NOTE=a b"}}
	want := ` rdinit=/bin/app PATH=/bin "NOTE=a b" -- -v "two words"`
	if got := a.kernelWords(); got != want {
		t.Errorf("kernelWords() = %q, want %q", got, want)
	}
	if got := (App{}).kernelWords(); got != "" {
		t.Errorf("of a program alone: %q", got)
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
