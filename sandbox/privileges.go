package sandbox

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noNewPrivileges keeps this process, for good, from getting more rights by
// executing a program. Landlock and seccomp ask for it, of who is not root.
func noNewPrivileges() error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	return nil
}

// hide keeps others of the same user from tracing this process, from reading its
// memory and its files under /proc, and the kernel from writing it to a core file.
func hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("dumpable: %w", err)
	}
	return nil
}

// capability is a right of root's.
type capability struct {
	bit  uint
	name string
}

// shareCapabilities are those that let root's machine do with a shared folder what
// root does: whoever a file belongs to, its guest reads and writes it, and gives it
// away.
var shareCapabilities = []capability{
	{unix.CAP_CHOWN, "CAP_CHOWN"},
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
	{unix.CAP_FOWNER, "CAP_FOWNER"},
	{unix.CAP_FSETID, "CAP_FSETID"},
}

// dropCapabilities gives up all capabilities, and returns the names of those that
// were kept: root's for a shared folder. The bounding set stays, for what it limits
// is execution, which gains nothing under no_new_privs.
func dropCapabilities(n Needs) (kept []string, err error) {
	var set uint64
	if n.Groups&Share != 0 && os.Geteuid() == 0 {
		have, err := ownCapabilities()
		if err != nil {
			return nil, err
		}
		for _, c := range shareCapabilities {
			if bit := uint64(1) << c.bit; have&bit != 0 {
				set |= bit
				kept = append(kept, c.name)
			}
		}
	}
	if err := setCapabilities(set); err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	return kept, nil
}

func ownCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// limit bounds what this process may take of the host, with limits that it cannot
// raise again.
func limit(n Needs) error {
	for _, l := range []struct {
		what int
		name string
		most uint64
	}{
		{unix.RLIMIT_CORE, "RLIMIT_CORE", 0},         // the guest's memory is nobody's to read
		{unix.RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE", 0}, // there are none
		{unix.RLIMIT_RTPRIO, "RLIMIT_RTPRIO", 0},     // no thread in front of all others
		{unix.RLIMIT_NICE, "RLIMIT_NICE", 0},
		{unix.RLIMIT_NOFILE, "RLIMIT_NOFILE", n.Files},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.what, &now); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		most := min(l.most, now.Max)
		if l.what == unix.RLIMIT_NOFILE && l.most == 0 {
			most = now.Cur
		}
		// Through syscall, which keeps what os.StartProcess would restore.
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}
