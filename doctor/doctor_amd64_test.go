package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmm/kvm"
)

func TestRun(t *testing.T) {
	start := time.Now()
	r := Run()
	if !r.OK {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatalf("%s; %s", r.Problem, r.Fix)
		}
		t.Skip(r.Problem)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if r.APIVersion != 12 || r.Limits.MaxVCPUs < 1 || r.Limits.MemorySlots < 1 || r.Limits.MemoryBytes == 0 {
		t.Errorf("API version %d, limits %+v", r.APIVersion, r.Limits)
	}
	for _, c := range r.Capabilities {
		if !strings.HasPrefix(c.Name, "KVM_CAP_") {
			t.Errorf("a capability without a name: %+v", c)
		}
	}
	// Between a hundred nanoseconds and a millisecond on anything that exists.
	if r.Speed.ExitNanoseconds < 100 || r.Speed.ExitNanoseconds > 1e6 {
		t.Errorf("an exit takes %v ns", r.Speed.ExitNanoseconds)
	}
	if r.Speed.KernelMIPS <= 0 || r.Speed.UserMIPS <= 0 {
		t.Errorf("speed %+v", r.Speed)
	}
	if !r.KernelModeNative && r.Fix == "" {
		t.Error("nothing to do about an interpreted kernel mode")
	}

	// A host that is slow in all things does not interpret.
	if advice := Interpreted(); advice != "" && (r.KernelModeNative || !strings.Contains(advice, r.Fix)) {
		t.Errorf("Interpreted = %q; the report has %v, %q", advice, r.KernelModeNative, r.Fix)
	}

	var text strings.Builder
	if _, err := r.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"KVM module", "an exit takes", "kernel-mode code", "verdict"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &text)
		}
	}
	if data, err := json.Marshal(r); err != nil || !strings.Contains(string(data), `"kernel_mode_native"`) {
		t.Errorf("JSON %s, %v", data, err)
	}
}

func TestFix(t *testing.T) {
	device := func(err error) error {
		return fmt.Errorf("boot: %w", &os.PathError{Op: "open", Path: kvm.Device, Err: err})
	}
	for _, tt := range []struct {
		err  error
		want string // a part of the advice, "" for none
	}{
		{device(syscall.EBUSY), "another hypervisor"},
		{device(syscall.EACCES), "run 'sudo "},
		{device(syscall.EIO), ""},
		{&os.PathError{Op: "open", Path: "/boot/vmlinuz", Err: syscall.EACCES}, ""},
		{errors.New("something else"), ""},
	} {
		got := Fix(tt.err)
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("Fix(%v) = %q; want %q", tt.err, got, tt.want)
		}
	}
	if Fix(device(syscall.ENOENT)) == "" {
		t.Error("no advice where there is no /dev/kvm")
	}
}

func TestReportOfABrokenHost(t *testing.T) {
	r := &Report{Problem: "open /dev/kvm: no such file or directory", Fix: "run 'sudo modprobe kvm_intel'"}
	var text strings.Builder
	if _, err := r.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{r.Problem, r.Fix} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &text)
		}
	}
}
