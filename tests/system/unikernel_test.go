package system

import (
	"os/exec"
	"testing"
)

// TestUnikernel runs those tests of the unikernel that need vmm, on a KVM that
// runs all of a guest at speed. tests/unikernel has them, and runs them elsewhere
// too.
func TestUnikernel(t *testing.T) {
	cmd := exec.Command(env(t, "VMM_UNIKERNEL_TEST"), "-test.v", "-test.run", "/(vmm|crash)")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
