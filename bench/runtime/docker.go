package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"vmm/bench/netlab"
	"vmm/image/tree"
)

// docker is a container as a person starts it with Docker. The daemon is one of
// the bench's own, in its namespaces: the host's is left alone, and everything
// goes with the bench. Its network is the bench's bridge.
type docker struct {
	app  App
	root string
}

var (
	_ Served    = (*docker)(nil)
	_ Contained = (*docker)(nil)
)

func (d *docker) Describe() Description {
	return Description{Name: "docker", Kind: KindContainer, Link: LinkAddress, Confined: engineConfined(d.app)}
}

func (d *docker) Find() (string, error) {
	for _, program := range []string{"docker", "dockerd"} {
		if _, err := lookFor(program, "Debian: apt-get install docker.io"); err != nil {
			return "", err
		}
	}
	return versionOf("dockerd", "--version"), needFile(d.root, "the application "+d.app.Name)
}

func (d *docker) Files() []File { return []File{{"container", d.root}} }

// daemon is the running daemon; there is one for a bench.
var daemon struct {
	sync.Mutex
	pid    int
	host   string
	images map[string]bool
}

// Daemons are dockerd and containerd, which it has started.
func (d *docker) Daemons() []int {
	daemon.Lock()
	defer daemon.Unlock()
	pids := []int{daemon.pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", daemon.pid))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// serve starts the daemon, unless it runs, and gives it the image.
func (d *docker) serve(base string) (host string, err error) {
	daemon.Lock()
	defer daemon.Unlock()
	if daemon.host == "" {
		dir := filepath.Join(base, "docker")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		socket := filepath.Join(dir, "socket")
		cmd := Command(context.Background(), "dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
			"--pidfile", filepath.Join(dir, "pid"), "--host", "unix://"+socket, "--bridge", "none",
			"--iptables=false", "--ip-masq=false", "--userland-proxy=false", "--storage-driver", "vfs",
			"--exec-opt", "native.cgroupdriver=cgroupfs")
		said := &tail{}
		cmd.Stdout, cmd.Stderr = said, said
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return "", err
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := waitSocket(socket, ended); err != nil {
			return "", fmt.Errorf("dockerd: %w%s", err, said.last())
		}
		daemon.pid, daemon.host, daemon.images = cmd.Process.Pid, "unix://"+socket, map[string]bool{}
		_, err := call("docker", "--host", daemon.host, "network", "create", "--driver", "bridge", "--subnet", netlab.Subnet.String(),
			"--gateway", netlab.Gateway.String(), "--opt", "com.docker.network.bridge.name="+netlab.Bridge, netlab.Bridge)
		if err != nil {
			return "", fmt.Errorf("docker network create: %w%s", err, said.last())
		}
	}
	if !daemon.images[d.app.Name] {
		if err := d.load(daemon.host); err != nil {
			return "", fmt.Errorf("docker import: %w", err)
		}
		daemon.images[d.app.Name] = true
	}
	return daemon.host, nil
}

// load gives the daemon the image.
func (d *docker) load(host string) error {
	files, err := tree.Open(d.root)
	if err != nil {
		return err
	}
	defer files.Close()
	r, w := io.Pipe()
	go func() { w.CloseWithError(files.WriteTar(w)) }()
	cmd := Command(context.Background(), "docker", "--host", host, "import", "-", d.image())
	cmd.Stdin = r
	_, err = callCommand(cmd)
	r.Close() // which ends the writing
	return err
}

// image is the name of the image. An application is called as its file is, which may
// be no name for Docker.
func (d *docker) image() string { return fmt.Sprintf("bench/%x", d.app.Name) }

// Config is in containerd's state.
func (d *docker) Config(i *Instance) (string, error) {
	return theOnly(filepath.Join(filepath.Dir(i.spec.Dir), "docker", "exec", "containerd", "daemon", "io.containerd.runtime.v2.task", "moby", "*", configFile))
}

// theOnly is the file with a name that only one can have now.
func theOnly(pattern string) (string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("%s: there are %d such files, want one", pattern, len(files))
	}
	return files[0], nil
}

// waitSocket waits until something listens at a unix socket.
func waitSocket(path string, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return errors.New("it does not listen after a minute")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Start starts a container with an address of the bench's network.
func (d *docker) Start(s Spec) (*Instance, error) {
	host, err := d.serve(filepath.Dir(s.Dir))
	if err != nil {
		return nil, err
	}
	run := func(args ...string) (string, error) {
		return call(append([]string{"docker", "--host", host}, args...)...)
	}
	args := []string{
		"docker", "--host", host, "run", "--detach", "--name", s.Name, "--cgroup-parent", s.Group.Relative(s.Tree), "--read-only",
		"--network", netlab.Bridge, "--ip", s.Endpoint.Addr.String(), "--log-driver", "none",
	}
	if s.Memory > 0 {
		if err := s.Group.Limit(s.Memory); err != nil {
			return nil, err
		}
	}
	if d.app.Dir != "" {
		args = append(args, "--workdir", d.app.Dir)
	}
	args = append(args, d.app.User.flags()...)
	for _, e := range d.app.Env {
		args = append(args, "--env", e)
	}
	args = append(append(args, d.image()), d.app.Command()...)
	return launch{
		spec: s, port: d.app.Port, detached: true, args: args,
		stop:  func(int) error { _, err := run("kill", "--signal", "TERM", s.Name); return err },
		clean: func() error { _, err := run("rm", "--force", s.Name); return err },
		find: func() (int, error) {
			answer, err := run("inspect", "--format", "{{.State.Pid}}", s.Name)
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(answer)
		},
	}.start()
}
