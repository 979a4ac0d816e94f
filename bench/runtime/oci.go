package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// oci is a container by one of the programs that follow the OCI runtime
// specification: they are all called in the same way.
type oci struct {
	app     App
	name    string // of the row
	program string
	get     string // how to get it
	flags   []string
	root    string // folder with the files of the container
	tiny    bool   // nothing but the program
	kernel  bool   // has one of its own, which alone makes system calls of the host
}

var _ Contained = (*oci)(nil)

func (o *oci) Describe() Description {
	d := Description{Name: o.name, Kind: KindContainer, Link: LinkVeth, Confined: "user " + o.app.User.String() + " of the host (no user namespace), "}
	switch {
	case o.tiny:
		d.Confined += fmt.Sprintf("no capabilities, %d system calls open", len(tinyCalls))
	case o.kernel:
		d.Confined += "its own kernel and filter"
	default:
		d.Confined += "three capabilities, Moby's default seccomp profile"
	}
	return d
}

func (o *oci) Find() (string, error) {
	if o.tiny && o.app.Name != "rest-c" {
		return "", Missing{"its system calls are those of the application rest-c", "give --app rest-c for this runtime"}
	}
	path, err := lookFor(o.program, o.get)
	if err != nil {
		return "", err
	}
	if err := needFile(o.root, "the application "+o.app.Name); err != nil {
		return "", err
	}
	return versionOf(path, "--version"), nil
}

func (o *oci) Files() []File { return []File{{"container", o.root}} }

// configFile is the configuration's name in the OCI specification of bundles.
const configFile = "config.json"

// Config is what bundle has made.
func (o *oci) Config(i *Instance) (string, error) {
	if o.kernel {
		return "", nil
	}
	return filepath.Join(i.spec.Dir, configFile), nil
}

// command is the runtime's command line. Its state is kept beside the instances'
// folders, away from that of the host's containers.
func (o *oci) command(s Spec, args ...string) []string {
	return append(append([]string{o.program, "--root", filepath.Join(filepath.Dir(s.Dir), "state-"+o.name)}, o.flags...), args...)
}

func (o *oci) Start(s Spec) (*Instance, error) {
	spec, err := o.bundle(s)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.Dir, configFile), text, 0o644); err != nil {
		return nil, err
	}
	if s.Memory > 0 {
		if err := s.Group.Limit(s.Memory); err != nil {
			return nil, err
		}
	}
	run := func(args ...string) error {
		_, err := call(o.command(s, args...)...)
		return err
	}
	return launch{
		spec: s, port: o.app.Port, detached: true,
		args:  o.command(s, "run", "--detach", "--pid-file", filepath.Join(s.Dir, "pid"), "--bundle", s.Dir, s.Name),
		stop:  func(int) error { return run("kill", s.Name, "TERM") },
		clean: func() error { return run("delete", "--force", s.Name) },
	}.start()
}

// bundle is the configuration of the container: what "runc spec" proposes, with
// the network and cgroup of the bench, and the seccomp profile of Docker's engine.
func (o *oci) bundle(s Spec) (*specs.Spec, error) {
	capabilities := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	if o.tiny {
		capabilities = []string{}
	}
	dir := o.app.Dir
	if dir == "" {
		dir = "/"
	}
	spec := &specs.Spec{
		Version:  "1.0.2",
		Hostname: "bench",
		Root:     &specs.Root{Path: o.root, Readonly: true},
		Process: &specs.Process{
			Args: o.app.Command(),
			Env:  append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, o.app.Env...),
			Cwd:  dir,
			User: specs.User{UID: o.app.User.UID, GID: o.app.User.GID, AdditionalGids: o.app.User.Groups},
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 4096, Soft: 4096}},
			NoNewPrivileges: true,
		},
		Mounts: mounts(o.tiny),
		Linux: &specs.Linux{
			CgroupsPath: filepath.Join(s.Group.Relative(s.Tree), "container"),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
				{Type: specs.NetworkNamespace, Path: s.Endpoint.Namespace},
			},
		},
	}
	var err error
	if spec.Linux.Seccomp, err = o.seccomp(spec); err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if !o.tiny {
		spec.Linux.MaskedPaths = []string{
			"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
			"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
		}
		spec.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	return spec, nil
}

// mounts are those of "runc spec". The runtimes need /proc for themselves, and
// make devices in /dev; a tiny container has these two.
func mounts(tiny bool) []specs.Mount {
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	if tiny {
		return all[:2]
	}
	return all
}
