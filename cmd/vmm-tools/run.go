package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vmm/cmd/internal/cli"
	"vmm/run"
	"vmm/tools"
)

// runFailed is the exit status for an error of vmm's own, as with docker run.
const runFailed = 125

func newRun() *cobra.Command {
	c := run.Config{CPUs: 1}
	memory := cli.Size(1 << 30)
	network := networkUser
	var entrypoint string
	remove := false
	cmd := &cobra.Command{
		Use:   "run [FLAG...] IMAGE [COMMAND [ARG...]]",
		Short: "Run a container image as a virtual machine",
		Long: `Run a container image as a virtual machine of its own, until its program ends.
IMAGE is the folder of an OCI layout, an archive of 'docker save' or 'podman
save', a folder with the files of a root file system, or else the name of an image in
a registry, which is pulled once. What the program writes outside of volumes is in
the machine's memory, and gone at the end.

The image's files are converted once, to a file system in $XDG_CACHE_HOME/vmm/oci
that all machines share. The guest has a network of its own, as with
vmm boot --net user, and the capabilities of a container.

Standard input is the program's with -i, and it has a terminal with -t. Signals are
passed on; the third SIGINT or SIGTERM ends the machine.

With -d the program goes on in the background, and what it says is in its log:
'vmm logs', 'vmm ps', 'vmm exec', 'vmm stop' and 'vmm rm' are for such machines.

Exit status: that of the program, or 128 plus the signal that ended it; 125 after an
error of vmm or of the guest, 126 when the program cannot be executed, 127 when it is
not in the image, 2 after wrong usage.`,
		Example: `  vmm run -it busybox.tar
  vmm run -p 127.0.0.1:8080:80 -v data:/data my-service
  skopeo copy docker://alpine oci:alpine && vmm run -it alpine sh
  vmm run -d --name web -p 8080:80 my-service && vmm logs -f web
  echo hello | vmm run -i rootfs/ /bin/cat`,
		Args: cli.Usage(cli.Args(1, -1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Image, c.Command = args[0], args[1:]
			c.Memory, c.Network = uint64(memory), network == networkUser
			if cmd.Flags().Changed("entrypoint") {
				c.Entrypoint = &entrypoint
			}
			c.Keep = !remove
			if c.Detached && (c.Input || c.Terminal) {
				return cli.Misuse(cmd, errors.New("--detach leaves the program no terminal and no input: leave -i and -t out"))
			}
			if c.Detached && os.Getenv(detachedFD) == "" {
				return ended(detach())
			}
			return ended(runImage(c))
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.SetInterspersed(false) // what is behind the image is the program's
	fl.BoolVarP(&c.Input, "interactive", "i", false, "standard input is the program's")
	fl.BoolVarP(&c.Terminal, "tty", "t", false, "give the program a terminal")
	fl.BoolVarP(&c.Detached, "detach", "d", false, "go on in the background once the program runs, and print the machine's ID")
	fl.BoolVar(&remove, "rm", false, "keep neither log nor exit status of a detached machine; of others they never are")
	fl.StringVar(&c.Name, "name", "", "`name` of the machine (default its ID)")
	fl.StringArrayVarP(&c.Env, "env", "e", nil, "set a `variable`: NAME=VALUE, or NAME for the value here; may be repeated")
	fl.StringVarP(&c.Dir, "workdir", "w", "", "working `folder` in the guest")
	fl.StringVarP(&c.User, "user", "u", "", "`user` of the program, by name or number, and perhaps :GROUP")
	fl.StringArrayVar(&c.Groups, "group-add", nil, "further `group` of the program; may be repeated")
	fl.StringVar(&entrypoint, "entrypoint", "", "`program` to execute instead of the image's; COMMAND is its arguments")
	fl.StringVar(&c.Hostname, "hostname", "", "`name` of the guest (default the machine's)")
	fl.StringArrayVarP(&c.Ports, "publish", "p", nil, "lead a port of this host into the guest: [ADDRESS:]PORT:PORT[/udp]; may be repeated")
	fl.Var(&cli.Choice[networkKind]{Value: &network, Values: []networkKind{networkUser, networkNone}}, "network", "network of the guest: user, one of its own, or none")
	fl.StringArrayVarP(&c.Volumes, "volume", "v", nil, "share a `folder`: DIR:/AT[:ro]; may be repeated")
	fl.StringArrayVar(&c.Add, "cap-add", nil, "`capability` for the program beside the usual ones, or ALL; may be repeated")
	fl.StringArrayVar(&c.Drop, "cap-drop", nil, "`capability` that the program must not have, or ALL; may be repeated")
	fl.BoolVar(&c.NoGain, "no-new-privileges", false, "executing a program gives no rights, setuid or not")
	fl.VarP(&memory, "memory", "m", "`size` of the guest's memory, with K, M, G or T")
	fl.IntVar(&c.CPUs, "cpus", c.CPUs, "`number` of processors")
	fl.StringVar(&c.Kernel, "kernel", "", "kernel `file` (default that of 'vmm kernel fetch full')")
	fl.StringVar(&c.Modules, "modules", "", "`folder` with modules that the kernel needs, and a file \"order\" with their names")
	return cmd
}

// networkKind is what a guest has for a network.
type networkKind string

const (
	networkUser networkKind = "user"
	networkNone networkKind = "none"
)

func runImage(c run.Config) (int, error) {
	signals := programSignals()
	c.In, c.Out, c.Err = os.Stdin, os.Stdout, os.Stderr
	c.Say = func(text string) { fmt.Fprintf(cli.Err(), "vmm: %s\n", text) }
	if c.Detached {
		answer := os.NewFile(detachedAnswer, "answer")
		unix.CloseOnExec(detachedAnswer) // the end of it is this process's to tell
		os.Unsetenv(detachedFD)
		c.Started = func(id string) {
			fmt.Fprint(answer, id)
			answer.Close()
			loseStreams()
		}
	}
	if err := complete(&c); err != nil {
		return 0, err
	}
	return run.Run(c, signals)
}

// A detached machine is run by a process that is started as this one was, with this
// variable, and tells its ID through this descriptor.
const (
	detachedFD     = "VMM_RUN_DETACHED"
	detachedAnswer = 3
)

// detach starts that process, and waits until the program runs. What is wrong before,
// it says itself.
func detach() (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Args[0] = os.Args[0]
	self.Env = append(os.Environ(), detachedFD+"=1")
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.ExtraFiles = []*os.File{w}
	self.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = self.Start()
	w.Close()
	if err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 1)
	cli.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		for s := range signals { // the process is no longer the terminal's
			_ = self.Process.Signal(s)
		}
	}()
	id, err := io.ReadAll(io.LimitReader(r, maxID))
	if err != nil {
		return 0, err
	}
	if len(id) > 0 {
		fmt.Fprintf(cli.Out(), "%s\n", id)
		return 0, nil
	}
	var exit *exec.ExitError
	if err := self.Wait(); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil // a program that was so quick that its machine is gone
}

// maxID is how long an ID is at the most.
const maxID = 64

// loseStreams lets go of the terminal, or whatever else the streams are: others wait
// for their end.
func loseStreams() {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	for fd := range 3 {
		_ = unix.Dup3(null, fd, 0)
	}
}

// complete finds what the user leaves to vmm.
func complete(c *run.Config) error {
	var err error
	if c.Programs.VMM, err = vmmPath(); err != nil {
		return err
	}
	if c.Programs.Init, err = tools.Beside(tools.Init); err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	c.Cache = filepath.Join(cache, "vmm", "oci")
	if c.Kernel == "" {
		if c.Kernel = newestKernel(filepath.Join(cache, "vmm", "kernels")); c.Kernel == "" {
			return errors.New("no kernel for guests is built: run 'vmm kernel fetch full', or choose one with --kernel")
		}
	}
	c.State, err = stateDir()
	return err
}

// newestKernel is the full kernel that guest-images/kernel/build has made last in a
// folder; "" without any.
func newestKernel(dir string) (path string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "vmm-full-*", "vmlinux")) // the pattern is right
	var newest time.Time
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.ModTime().After(newest) {
			path, newest = p, info.ModTime()
		}
	}
	return path
}

// stateDir is the folder for machines that run. XDG Base Directory Specification.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vmm", "machines"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("neither XDG_STATE_HOME nor HOME is set: set one, for the state of machines")
	}
	return filepath.Join(home, ".local", "state", "vmm", "machines"), nil
}
