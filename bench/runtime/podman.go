package runtime

import "path/filepath"

// podman is a container as a person starts it with Podman, which needs no daemon.
type podman struct {
	app  App
	root string
}

var _ Contained = (*podman)(nil)

func (p *podman) Describe() Description {
	return Description{Name: "podman", Kind: KindContainer, Link: LinkVeth, Confined: engineConfined(p.app)}
}

func (p *podman) Find() (string, error) {
	path, err := lookFor("podman", "Debian: apt-get install podman")
	if err != nil {
		return "", err
	}
	return versionOf(path, "--version"), needFile(p.root, "the application "+p.app.Name)
}

func (p *podman) Files() []File { return []File{{"container", p.root}} }

// command is Podman's command line, with state and images of the bench's own.
func (p *podman) command(s Spec, args ...string) []string {
	base := filepath.Dir(s.Dir)
	return append([]string{
		"podman", "--root", filepath.Join(base, "podman"), "--runroot", filepath.Join(base, "podman-run"), "--tmpdir", filepath.Join(base, "podman-tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}, args...)
}

// Config is in Podman's storage.
func (p *podman) Config(i *Instance) (string, error) {
	return theOnly(filepath.Join(filepath.Dir(i.spec.Dir), "podman", "vfs-containers", "*", "userdata", configFile))
}

func (p *podman) Start(s Spec) (*Instance, error) {
	run := func(args ...string) error {
		_, err := call(p.command(s, args...)...)
		return err
	}
	args := []string{
		"run", "--detach", "--name", s.Name, "--pidfile", filepath.Join(s.Dir, "pid"), "--network", "ns:" + s.Endpoint.Namespace,
		"--cgroup-parent", s.Group.Relative(s.Tree), "--read-only", "--log-driver", "none", "--ulimit", "host",
	}
	if s.Memory > 0 {
		if err := s.Group.Limit(s.Memory); err != nil {
			return nil, err
		}
	}
	if p.app.Dir != "" {
		args = append(args, "--workdir", p.app.Dir)
	}
	args = append(args, p.app.User.flags()...)
	for _, e := range p.app.Env {
		args = append(args, "--env", e)
	}
	args = append(append(args, "--rootfs", p.root), p.app.Command()...)
	return launch{
		spec: s, port: p.app.Port, detached: true,
		args:  p.command(s, args...),
		stop:  func(int) error { return run("kill", "--signal", "TERM", s.Name) },
		clean: func() error { return run("rm", "--force", "--time", "0", s.Name) },
	}.start()
}

// engineConfined is what an engine's defaults are.
func engineConfined(app App) string {
	return "user " + app.User.String() + " of the host (no user namespace), the engine's capabilities and seccomp profile"
}
