package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/image/account"
	"vmm/run/protocol"
)

// stageName is the name under which this program is executed to become another.
const stageName = "vmm-init: program"

// The descriptors of such a process, beside its standard ones.
const (
	stageSpec   = 3 // what to become
	stageAnswer = 4 // why that was not possible; closed by the execution
)

// becomeProgram becomes the program that it is told of. It does not return.
func becomeProgram() {
	answer := os.NewFile(stageAnswer, "answer")
	unix.CloseOnExec(stageAnswer)
	p, err := protocol.ReadProcess(os.NewFile(stageSpec, "specification"))
	if err == nil {
		unix.CloseOnExec(stageSpec)
		err = become(p)
	}
	not := notExecuted{statusFailed, err.Error()}
	errors.As(err, &not)
	_ = json.NewEncoder(answer).Encode(not)
	os.Exit(int(not.Status))
}

// become sets what the program is to have, what it must not have last, and executes it.
func become(p *protocol.Process) error {
	user, groups, err := identity(p)
	if err != nil {
		return err
	}
	for _, l := range p.Rlimits {
		// Not unix.Setrlimit: the runtime sets NOFILE back unless it is told.
		if err := syscall.Setrlimit(protocol.Rlimits[l.Name], &syscall.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("the limit %s: %w", l.Name, err)
		}
	}
	for fd := range 3 { // so that it can open /dev/stdout
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO || p.Terminal) {
			_ = unix.Fchown(fd, int(user.UID), int(st.Gid))
		}
	}
	dir := p.Dir
	if dir == "" {
		dir = "/"
	}
	chdirErr := os.Chdir(dir)
	if err := drop(p); err != nil {
		return err
	}
	if err := setIdentity(user, groups); err != nil {
		return err
	}
	if user.UID == 0 {
		if err := setCapabilities(p); err != nil {
			return err
		}
	}
	if chdirErr != nil { // where the user may go, and root without its capabilities may not
		chdirErr = os.Chdir(dir)
	}
	if chdirErr != nil {
		return fmt.Errorf("the working directory: %w", chdirErr)
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
	}
	return execute(p, user)
}

// identity finds the user and groups in the image's lists.
func identity(p *protocol.Process) (account.User, []int, error) {
	passwd, group := list("/etc/passwd"), list("/etc/group")
	user, err := account.Find(p.User, passwd, group)
	if err != nil {
		return user, nil, err
	}
	// The first group is one of the others, too, so that to leave it takes nothing away
	// that was denied to it.
	groups := []int{int(user.GID)}
	for _, g := range user.Groups {
		groups = append(groups, int(g))
	}
	for _, name := range p.Groups {
		g, err := account.Group(name, group)
		if err != nil {
			return user, nil, err
		}
		groups = append(groups, int(g))
	}
	return user, groups, nil
}

// list is the text of a list of users or groups; what cannot be read has nobody.
func list(name string) string {
	// A FIFO in its place would wait for a writer.
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, account.MaxSize))
	if err != nil {
		return ""
	}
	return string(text)
}

// setIdentity makes this process the user's.
func setIdentity(user account.User, groups []int) error {
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("its groups: %w", err)
	}
	if err := syscall.Setresgid(int(user.GID), int(user.GID), int(user.GID)); err != nil {
		return fmt.Errorf("its group %d: %w", user.GID, err)
	}
	if err := syscall.Setresuid(int(user.UID), int(user.UID), int(user.UID)); err != nil {
		return fmt.Errorf("its user %d: %w", user.UID, err)
	}
	return nil
}

// drop takes from the bounding set what the program must never have.
func drop(p *protocol.Process) error {
	if p.AllCapabilities {
		return nil
	}
	mask := capabilityMask(p)
	for c := range 64 {
		if mask>>c&1 != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err == unix.EINVAL {
			return nil // the kernel has no more
		} else if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

func capabilityMask(p *protocol.Process) uint64 {
	var mask uint64
	for _, name := range p.Capabilities {
		if n, ok := protocol.CapabilityNumber(name); ok {
			mask |= 1 << n
		}
	}
	return mask
}

// setCapabilities leaves root with those that it is to have.
func setCapabilities(p *protocol.Process) error {
	if p.AllCapabilities {
		return nil
	}
	mask := capabilityMask(p)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		word := uint32(mask >> (32 * i))
		data[i] = unix.CapUserData{Effective: word, Permitted: word}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("its capabilities: %w", err)
	}
	return nil
}

// execute executes the program, and returns why it could not.
func execute(p *protocol.Process, user account.User) error {
	env := p.Env
	if _, ok := lookup(env, "HOME"); !ok {
		home := user.Home
		if home == "" {
			home = "/"
		}
		env = append(env[:len(env):len(env)], "HOME="+home)
	}
	why := notExecuted{statusNotFound, fmt.Sprintf("%q is not in the image", p.Args[0])}
	for _, name := range candidates(p.Args[0], env) {
		switch err := unix.Exec(name, p.Args, env); err {
		case unix.ENOENT, unix.ENOTDIR:
			if _, statErr := os.Stat(name); statErr == nil {
				why = notExecuted{statusNotFound, fmt.Sprintf("%s is in the image, but not the program that interprets it", name)}
			}
		case unix.EACCES:
			why = notExecuted{statusNoExecute, fmt.Sprintf("%s: %v", name, err)}
		default:
			return notExecuted{statusNoExecute, fmt.Sprintf("%s: %v", name, err)}
		}
	}
	return why
}

// defaultPath is the PATH of a program without one.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the paths where a program may be.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	dirs, ok := lookup(env, "PATH")
	if !ok {
		dirs = defaultPath
	}
	var all []string
	for dir := range strings.SplitSeq(dirs, ":") {
		if dir == "" {
			dir = "."
		}
		all = append(all, path.Join(dir, name))
	}
	return all
}

// lookup is the value of a variable, and whether there is one.
func lookup(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}
