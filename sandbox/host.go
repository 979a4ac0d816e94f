package sandbox

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Layers are the layers that this host has, of those that not every one has. A nil
// error says that it has one.
type Layers struct {
	Seccomp         error
	Landlock        error
	LandlockVersion int
	// Threads: all threads of this program can be caged.
	Threads error
}

// Host looks which layers this host has. Everything else of the cage, every Linux
// on which vmm runs has.
var Host = sync.OnceValue(func() *Layers {
	h := &Layers{Threads: threads(), Seccomp: seccomp()}
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno == unix.ENOSYS:
		h.Landlock = errors.New("this host's kernel is built without Landlock (CONFIG_SECURITY_LANDLOCK), or older than Linux 5.13")
	case errno == unix.EOPNOTSUPP:
		h.Landlock = errors.New("this host boots with Landlock switched off; add landlock to the kernel's lsm= list")
	case errno != 0:
		h.Landlock = fmt.Errorf("this host refuses Landlock: %w", errno)
	default:
		if h.LandlockVersion = int(version); version < landlockNeeded {
			h.Landlock = errors.New("this host's Landlock is of version 1, under which no file goes from folder to folder; use Linux 5.19 or later")
		}
	}
	return h
})
