package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vmm/cmd/internal/start"
	"vmm/machine"
)

// checkLimits looks at limits of the host on this process under which it would
// end somewhere in the middle, in Go's runtime.
func checkLimits(memory uint64) error {
	var space unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &space); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if need := memory + start.Space; space.Cur < need {
		return fmt.Errorf("the limit on this process's address space (ulimit -v) is %s: vmm takes %s and the guest's RAM, %s in all; raise it, with ulimit -v %d, or give the guest less --memory",
			machine.FormatSize(space.Cur), machine.FormatSize(start.Space), machine.FormatSize(need), need>>10)
	}
	return nil
}
