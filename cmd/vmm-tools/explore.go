package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/explore"
)

func newExplore() *cobra.Command {
	var web string
	cmd := &cobra.Command{
		Use:   "explore PATH | explore -- BOOT-FLAGS",
		Short: "Look at a running machine in a web browser",
		Long: `Show a machine on a web page of this computer: its processors with what they are
about to execute, its memory and how much of it is touched, exits a second,
device registers, virtqueues as they move, and the console. It can be paused,
stepped and typed to there.

PATH is the control socket of a running machine, from vmm boot --control PATH.
With flags of vmm boot behind "--", that machine is started, in this terminal;
it ends when its guest does. --control PATH among them is the socket that is
used; without, it is one that nobody else can reach.

The address that is printed has a token in it, without which nobody is answered,
and is of this computer only.`,
		Example: `  vmm explore vm.sock
  vmm explore -- --kernel vmlinuz --initrd initrd.cpio
  vmm explore -- --kernel vmlinuz --initrd initrd.cpio --paused
  vmm explore --web 127.0.0.1:8080 -- --kernel apic.flat --debug-exit`,
		Args: cli.Usage(func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 0 && len(args) != 1 {
				return errors.New("name the control socket of a machine, or give flags of vmm boot behind --")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := explore.Listen(web)
			if err != nil {
				return err
			}
			defer l.Close()
			if cmd.ArgsLenAtDash() == 0 {
				return exploreNew(l, args)
			}
			ctx, stop := cli.NotifyContext(cmd.Context())
			defer stop()
			m, err := control.Dial(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			ctx, end := context.WithCancelCause(ctx)
			defer end(nil)
			err = serve(ctx, l, watched{m, func() { time.AfterFunc(time.Second, func() { end(control.ErrEnded) }) }})
			if errors.Is(context.Cause(ctx), control.ErrEnded) {
				fmt.Fprintln(cli.Err(), "vmm: the machine has ended")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&web, "web", "127.0.0.1:0", "`address` of the page, of the loopback; port 0 takes a free one")
	return cmd
}

// watched is a machine whose end calls ended.
type watched struct {
	explore.Machine
	ended func()
}

// Call implements explore.Machine.
func (w watched) Call(r control.Request) (control.Response, error) {
	answer, err := w.Machine.Call(r)
	if errors.Is(err, control.ErrEnded) {
		w.ended()
	}
	return answer, err
}

// serve shows the page of a machine until ctx ends.
func serve(ctx context.Context, l net.Listener, m explore.Machine) error {
	token := explore.NewToken()
	server := explore.NewServer(l, token, m)
	defer context.AfterFunc(ctx, func() { server.Close() })()
	fmt.Fprintf(cli.Err(), "vmm: the machine is at %s\n", explore.URL(l, token))
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startFor is how long vmm may take to have its control socket there.
const startFor = 10 * time.Second

// exploreNew starts a machine with flags of vmm boot, and shows it until it ends.
// The terminal is its console, and signals are for it to obey.
func exploreNew(l net.Listener, flags []string) error {
	dir, err := os.MkdirTemp("", "vmm-explore")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	vmm, err := vmmPath()
	if err != nil {
		return err
	}
	// What the flags ask for themselves is used as it is.
	args := []string{"boot"}
	socket, own := flagValue(flags, "control")
	if !own {
		socket = filepath.Join(dir, "control")
		args = append(args, "--control", socket)
	}
	if _, ok := flagValue(flags, "timeline"); !ok {
		args = append(args, "--timeline", os.DevNull) // for the page, which asks for it
	}
	cmd := exec.Command(vmm, append(args, flags...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// A signal to this process alone is passed on; one from the terminal, vmm has
	// had itself, and does not take for a second one.
	signals := make(chan os.Signal, 1)
	cli.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()

	var m *control.Client
	for deadline := time.Now().Add(startFor); m == nil; time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			return exit(err)
		default:
		}
		if m, err = dial(socket, cmd.Process.Pid); err != nil && time.Now().After(deadline) {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-ended
			return err
		}
	}
	defer m.Close()
	os.RemoveAll(dir) // connected: nobody needs the socket's name, should this process be killed
	running, stop := context.WithCancel(context.Background())
	var failed error
	go func() {
		failed = exit(<-ended)
		stop()
	}()
	if err := serve(running, l, m); err != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-running.Done()
		return err
	}
	<-running.Done()
	return failed
}

// dial connects to the machine of a process. Another's may listen at the path, for
// which that process is about to complain.
func dial(path string, pid int) (*control.Client, error) {
	m, err := control.Dial(path)
	if err != nil {
		return nil, err
	}
	answer, err := m.Call(control.Request{Command: control.ShowAll})
	if err == nil && (answer.Status == nil || answer.Status.PID != pid) {
		err = fmt.Errorf("%s: another machine listens there", path)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// flagValue is the value of a flag among the flags of vmm boot, "--name value" or
// "--name=value", if it is there.
func flagValue(flags []string, name string) (string, bool) {
	for i, f := range flags {
		if v, ok := strings.CutPrefix(f, "--"+name+"="); ok {
			return v, true
		}
		if f == "--"+name && i+1 < len(flags) {
			return flags[i+1], true
		}
	}
	return "", false
}

// exit makes this program end as vmm did, which has said why, unless a signal
// ended it.
func exit(err error) error {
	if status := new(exec.ExitError); errors.As(err, &status) {
		if w, ok := status.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			return fmt.Errorf("vmm boot, and the machine with it, was ended by a signal: %v", w.Signal())
		}
		return cli.ExitStatus(max(status.ExitCode(), 1))
	}
	return err
}

// vmmPath is the program vmm: the one in the folder of this one, or in PATH.
func vmmPath() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), "vmm"); isFile(path) {
			return path, nil
		}
	}
	return exec.LookPath("vmm")
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
