package sandbox

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Versions of Landlock by what they added. Documentation/userspace-api/landlock.rst.
const (
	landlockRefer    = 2 // a file may go to another folder: Linux 5.19
	landlockTruncate = 3 // 6.2
	landlockPorts    = 4 // TCP ports: 6.7
	landlockDevices  = 5 // ioctls of devices: 6.10
	landlockScopes   = 6 // abstract unix sockets: 6.12

	// landlockNeeded is the first version with which shared folders work.
	landlockNeeded = landlockRefer
)

// landlockRuleNetPort is LANDLOCK_RULE_NET_PORT, <linux/landlock.h>.
const landlockRuleNetPort = 2

// Rights to files.
const (
	readFiles = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// changeFiles makes no devices, and executes nothing.
	changeFiles = readFiles | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	removeFiles = unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

// handledFiles are the rights to files that a version of Landlock takes away where no
// rule gives them.
func handledFiles(version int) uint64 {
	all := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1)
	for _, later := range []struct {
		since int
		right uint64
	}{
		{landlockRefer, unix.LANDLOCK_ACCESS_FS_REFER},
		{landlockTruncate, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{landlockDevices, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	} {
		if version >= later.since {
			all |= later.right
		}
	}
	return all
}

// fileRules are a set of Landlock's rules that is not in force yet.
type fileRules struct {
	fd    int // -1: this host has no Landlock
	names []string
}

// newRules makes the rules: no file may be opened, made or removed but in the
// folders that a process needs, whoever it runs as. What is open stays open.
func newRules(h *Layers, n Needs) (_ *fileRules, err error) {
	r := &fileRules{fd: -1}
	if h.Landlock != nil {
		return r, nil
	}
	defer func() {
		if err != nil {
			r.close()
			err = fmt.Errorf("rules of Landlock: %w", err)
		}
	}()
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handledFiles(h.LandlockVersion)}
	if h.LandlockVersion >= landlockPorts {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		if n.Groups&Network == 0 { // a network's connections are the guest's
			attr.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if h.LandlockVersion >= landlockScopes {
		// Signals have a scope too. The filter lets none out of this process, but
		// to a process that it has started before.
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if r.fd, err = createRuleset(&attr); err != nil {
		return r, err
	}
	for _, f := range n.Folders {
		rights, what := uint64(changeFiles), "to change"
		if f.ReadOnly {
			rights, what = readFiles, "to read"
		}
		if err := r.allow(f.Path, rights&attr.Handled_access_fs, what); err != nil {
			return r, err
		}
	}
	for _, path := range n.Reads {
		if err := r.allow(path, unix.LANDLOCK_ACCESS_FS_READ_FILE, "to read"); err != nil {
			return r, err
		}
	}
	for _, dir := range n.Removes {
		if err := r.allow(dir, removeFiles, "to remove files from"); err != nil {
			return r, err
		}
	}
	if attr.Handled_access_net != 0 {
		for _, port := range n.Ports {
			if err := addPort(r.fd, &netPort{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// allow gives rights to a folder and all that is below it.
func (r *fileRules) allow(path string, rights uint64, what string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := addFolder(r.fd, &unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.names = append(r.names, path+" ("+what+")")
	return nil
}

// restrict puts the rules in force for all threads.
func (r *fileRules) restrict() error {
	if r.fd < 0 {
		return nil
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0); errno != 0 {
		return fmt.Errorf("rules of Landlock: %w", errno)
	}
	return nil
}

func (r *fileRules) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
}

// LandlockNote says what a version of Landlock lacks; "" for nothing. What it lacks,
// the filter of system calls refuses as well.
func (h *Layers) LandlockNote() string {
	if h.Landlock != nil {
		return h.Landlock.Error()
	}
	var lacks []string
	for _, later := range []struct {
		since int
		what  string
	}{
		{landlockTruncate, "truncation (Linux 6.2)"},
		{landlockPorts, "TCP ports (6.7)"},
		{landlockDevices, "ioctls of devices (6.10)"},
		{landlockScopes, "abstract sockets (6.12)"},
	} {
		if h.LandlockVersion < later.since {
			lacks = append(lacks, later.what)
		}
	}
	if lacks == nil {
		return ""
	}
	return fmt.Sprintf("version %d, which does not know of %s", h.LandlockVersion, strings.Join(lacks, ", "))
}
