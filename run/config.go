// Package run runs a container image as a virtual machine: its files as a read-only
// disk, and in the guest a first process that makes it what a container would be.
// docs/run.md describes it.
package run

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vmm/run/protocol"
)

// Config is what a user asks for.
type Config struct {
	Image   string
	Command []string // instead of the image's
	// Entrypoint is the program to execute, instead of the image's; nil for that.
	Entrypoint *string
	Env        []string // NAME=VALUE, or NAME with the value here
	Dir        string   // "" for the image's
	User       string   // "" for the image's
	Groups     []string
	Hostname   string
	Name       string

	Detached bool // it has no streams here; what it says is in its log
	Keep     bool // what is known of the machine stays after its end, if it is detached
	Input    bool // standard input is the program's
	Terminal bool // the program has a terminal

	Ports    []string // [[ADDRESS:]PORT:]PORT[/tcp|udp]
	Volumes  []string // DIR:AT[:ro]
	Network  bool     // a network of the guest's own
	Add      []string // capabilities beside the usual ones, or ALL
	Drop     []string // capabilities not to have, or ALL
	NoGain   bool     // no new privileges
	Memory   uint64   // in bytes
	CPUs     int
	Kernel   string
	Modules  string // a folder with modules of the kernel; "" for none
	Boot     []string
	Programs Programs
	Cache    string // the folder for images
	State    string // the folder for machines

	In, Out, Err *os.File
	// Say receives what takes time, and warnings.
	Say func(string)
	// Started, unless it is nil, is called when the program runs, with the machine's ID.
	Started func(id string)
}

// Programs are the files that a machine is made with.
type Programs struct {
	VMM  string // the monitor
	Init string // the guest's first process
}

// usual are the capabilities that containers have: those of Docker and podman.
var usual = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW",
	"SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP",
}

// The limit of open files that a program has unless told otherwise: systemd's, which
// containers have too.
const softFiles, hardFiles = 1024, 524288

// The addresses of a network of the guest's own: package usernet.
const (
	guestAddress = "10.0.2.15/24"
	guestGateway = "10.0.2.2"
	guestDNS     = "10.0.2.3"
)

// defaultPath is the PATH of a program whose image has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// rootDevice is the first disk of a guest.
const rootDevice = "/dev/vda"

// spec is what the guest is told.
func (c *Config) spec(s *source) (*protocol.Spec, error) {
	p := protocol.Process{
		Dir: s.dir, User: s.user, Groups: c.Groups, Terminal: c.Terminal, NoNewPrivileges: c.NoGain,
		Rlimits: []protocol.Rlimit{{Name: "NOFILE", Soft: softFiles, Hard: hardFiles}},
	}
	entrypoint, command := s.entrypoint, s.command
	if c.Entrypoint != nil { // the image's arguments are for its own
		entrypoint, command = nil, nil
		if *c.Entrypoint != "" {
			entrypoint = []string{*c.Entrypoint}
		}
	}
	if len(c.Command) > 0 {
		command = c.Command
	}
	if p.Args = slices.Concat(entrypoint, command); len(p.Args) == 0 {
		return nil, errors.New("the image names no command: give one behind it")
	}
	if c.Dir != "" || p.Dir != "" {
		p.Dir = inFolder(p.Dir, c.Dir)
	}
	if c.User != "" {
		p.User = c.User
	}
	var err error
	if p.Env, err = c.environment(s.env); err != nil {
		return nil, err
	}
	if p.Capabilities, p.AllCapabilities, err = c.capabilities(); err != nil {
		return nil, err
	}
	spec := &protocol.Spec{Version: protocol.Version, Root: rootDevice, Hostname: c.Hostname, Process: p, Session: true}
	if c.Network {
		spec.Network = &protocol.Network{Interface: "eth0", Address: guestAddress, Gateway: guestGateway, Resolvers: []string{guestDNS}}
	}
	volumes, err := c.volumes()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		spec.Mounts = append(spec.Mounts, protocol.Mount{Tag: v.tag, Target: v.at, ReadOnly: v.readOnly})
	}
	return spec, spec.Check()
}

// inFolder is a folder of the guest's, as seen from another.
func inFolder(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join("/", dir, name)
}

// environment is the image's with the user's, and what programs expect beside.
func (c *Config) environment(env []string) ([]string, error) {
	env = slices.Clone(env)
	if _, ok := variable(env, "PATH"); !ok {
		env = append(env, "PATH="+defaultPath)
	}
	if _, ok := variable(env, "TERM"); !ok && c.Terminal {
		env = append(env, "TERM=xterm")
	}
	if c.Hostname != "" {
		env = set(env, "HOSTNAME", c.Hostname)
	}
	return withUsers(env, c.Env)
}

// withUsers is an environment with the variables that a user sets.
func withUsers(env, user []string) ([]string, error) {
	for _, e := range user {
		name, value, ok := strings.Cut(e, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: write NAME=VALUE, or NAME to hand on a variable of yours", e)
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		env = set(env, name, value)
	}
	return env, nil
}

// set sets a variable in an environment.
func set(env []string, name, value string) []string {
	env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	return append(env, name+"="+value)
}

// capabilities are those that the program is to have.
func (c *Config) capabilities() (list []string, all bool, err error) {
	for _, name := range slices.Concat(c.Add, c.Drop) {
		if _, ok := protocol.CapabilityNumber(name); !ok && !strings.EqualFold(name, "ALL") {
			return nil, false, fmt.Errorf("there is no capability %q: see capabilities(7)", name)
		}
	}
	has := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(l string) bool {
			return strings.EqualFold(strings.TrimPrefix(strings.ToUpper(l), "CAP_"), name)
		})
	}
	if has(c.Add, "ALL") {
		if len(c.Drop) > 0 {
			return nil, false, errors.New("--cap-add ALL and --cap-drop: name those to add instead")
		}
		return nil, true, nil
	}
	if !has(c.Drop, "ALL") {
		list = slices.Clone(usual)
	}
	list = slices.DeleteFunc(list, func(name string) bool { return has(c.Drop, name) })
	return append(list, c.Add...), false, nil
}

// volume is a folder of the host's in the guest.
type volume struct {
	path, tag, at string
	readOnly      bool
}

func (c *Config) volumes() ([]volume, error) {
	var all []volume
	for i, text := range c.Volumes {
		parts := strings.Split(text, ":")
		bad := fmt.Errorf("--volume %q: write DIR:/AT or DIR:/AT:ro, where DIR is a folder here and /AT one in the guest", text)
		v := volume{tag: "volume" + strconv.Itoa(i)}
		switch {
		case len(parts) == 3 && parts[2] == "ro":
			v.readOnly = true
		case len(parts) == 3 && parts[2] == "rw", len(parts) == 2:
		default:
			return nil, bad
		}
		if parts[0] == "" || !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
			return nil, bad
		}
		var err error
		if v.path, err = filepath.Abs(parts[0]); err != nil {
			return nil, err
		}
		if info, err := os.Stat(v.path); err != nil {
			return nil, fmt.Errorf("--volume %q: %w", text, err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("--volume %q: %s is not a folder", text, v.path)
		}
		v.at = path.Clean(parts[1])
		all = append(all, v)
	}
	return all, nil
}

// forwards are the ports as 'vmm boot' takes them.
func (c *Config) forwards() (string, error) {
	var all strings.Builder
	for _, text := range c.Ports {
		bad := fmt.Errorf("--publish %q: write PORT:PORT, ADDRESS:PORT:PORT, or PORT:PORT/udp, the guest's port last", text)
		rest, kind, ok := strings.Cut(text, "/")
		if !ok {
			kind = "tcp"
		}
		if kind != "tcp" && kind != "udp" {
			return "", bad
		}
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return "", bad
		}
		host, guest := rest[:i], rest[i+1:]
		if !strings.Contains(host, ":") {
			host = "0.0.0.0:" + host // as containers' ports are
		}
		at, err := netip.ParseAddrPort(host)
		port, portErr := strconv.ParseUint(guest, 10, 16)
		if err != nil || portErr != nil || at.Port() == 0 || port == 0 {
			return "", bad
		}
		fmt.Fprintf(&all, ",hostfwd=%s:%s-:%d", kind, at, port)
	}
	if all.Len() > 0 && !c.Network {
		return "", errors.New("--publish: the guest has no network (--network none)")
	}
	return all.String(), nil
}

// args are those of 'vmm boot'.
func (c *Config) args(disk, initrd, socket, control string) ([]string, error) {
	comma := func(path string) string { return strings.ReplaceAll(path, ",", ",,") }
	args := []string{
		"boot", "--kernel", c.Kernel, "--initrd", initrd,
		"--memory", strconv.FormatUint(c.Memory>>10, 10) + "K", "--cpus", strconv.Itoa(c.CPUs),
		"--disk", "path=" + comma(disk) + ",ro,format=raw",
		"--vsock", "cid=3,uds=" + comma(socket), "--control", control,
		"--append", "quiet rdinit=/" + protocol.InitPath,
	}
	if c.Network {
		forwards, err := c.forwards()
		if err != nil {
			return nil, err
		}
		args = append(args, "--net", "user"+forwards)
	} else if len(c.Ports) > 0 {
		_, err := c.forwards()
		return nil, err
	}
	volumes, err := c.volumes()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		share := "path=" + comma(v.path) + ",tag=" + v.tag
		if v.readOnly {
			share += ",ro"
		}
		args = append(args, "--share", share)
	}
	return append(args, c.Boot...), nil
}

// say tells the user something, if somebody listens.
func (c *Config) say(text string) {
	if c.Say != nil {
		c.Say(text)
	}
}
