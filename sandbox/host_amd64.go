package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// seccomp looks whether the host has filters.
func seccomp() error {
	for _, action := range []uint32{unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_KILL_PROCESS} {
		if err := canFilter(action); err != nil {
			return fmt.Errorf("this host's kernel has no filters of system calls (CONFIG_SECCOMP_FILTER): %w", err)
		}
	}
	return nil
}
