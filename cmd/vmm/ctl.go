package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/console"
	"vmm/control"
	"vmm/machine"
	"vmm/sandbox"
	"vmm/trace"
)

func newCtl() *cobra.Command {
	var after time.Duration
	var stop bool
	cmd := &cobra.Command{
		Use:   "ctl PATH COMMAND",
		Short: "Control a running machine",
		Long: `Control the machine that was started with --control PATH.

  pause           pause its vCPUs
  resume          resume them
  shutdown        press its power button: the guest shuts down, if it listens
  reboot          press Ctrl-Alt-Del at its keyboard: the guest shuts down and
                  resets, which ends vmm
  stop            end it at once, as Ctrl-A x does; with --after TIME, press the
                  power button, and end it if it has not shut down by then
  status          show its state, as JSON
  balloon SIZE    have the guest lend SIZE of its memory back to the host
  link CARD up    plug in the cable of a network card; "down" unplugs it
  step VCPU       have a vCPU of the paused machine execute one instruction
  snapshot DIR    save the machine in the folder DIR, for 'vmm restore'; it goes
                  on then, or ends with --stop
  type TEXT       type TEXT and the Enter key at the guest's console

Exit status: 0 when it was done, 1 when it was not, 2 after wrong usage.`,
		Example: `  vmm boot --kernel vmlinuz --initrd initrd.img --balloon --control vm.sock
  vmm ctl vm.sock pause
  vmm ctl vm.sock shutdown
  vmm ctl vm.sock stop --after 30s
  vmm ctl vm.sock balloon 256M
  vmm ctl vm.sock link 0 down
  vmm ctl vm.sock snapshot --stop vm.snapshot && vmm restore vm.snapshot
  vmm ctl vm.sock type 'uname -a'
  vmm ctl vm.sock pause && vmm ctl vm.sock step 0 && vmm inspect processor vm.sock`,
		Args: cli.Usage(cli.Args(2, -1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseCommand(args[1:])
			if err == nil && stop && r.Command != control.TakeSnapshot {
				err = errors.New("--stop belongs to snapshot")
			}
			if err != nil {
				return cli.Misuse(cmd, err)
			}
			if cmd.Flags().Changed("after") {
				if r.Command != control.Stop || after <= 0 {
					return cli.Misuse(cmd, errors.New("--after takes a time above 0, and belongs to stop"))
				}
				r.After = after.Seconds()
				return stopAfter(args[0], r)
			}
			if r.Command == control.TakeSnapshot {
				return takeSnapshot(args[0], args[2], stop)
			}
			answer, err := control.Call(args[0], r)
			if err != nil || answer.Status == nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), answer.Status)
		},
	}
	cmd.Flags().DurationVar(&after, "after", 0, "with stop: the `time` that the guest has to shut down, such as 30s")
	cmd.Flags().BoolVar(&stop, "stop", false, "with snapshot: end the machine once it has been saved")
	return cmd
}

// stopAfter carries out a stop that gives the guest time, and returns when the
// machine has ended.
func stopAfter(path string, r control.Request) error {
	c, err := control.Dial(path)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Call(r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.AwaitEnd()
	return nil
}

// parseCommand reads the words of a command.
func parseCommand(words []string) (control.Request, error) {
	r := control.Request{Command: words[0]}
	args := words[1:]
	takes := map[string]int{
		control.Pause: 0, control.Resume: 0, control.Stop: 0, control.Shutdown: 0, control.Reboot: 0, control.ShowAll: 0, control.Balloon: 1, control.Link: 2,
		control.Step: 1, control.Type: 1, control.TakeSnapshot: 1,
	}
	n, ok := takes[r.Command]
	if !ok {
		return r, fmt.Errorf("%q is not a command", r.Command)
	}
	if len(args) != n {
		return r, fmt.Errorf("%s takes %d arguments", r.Command, n)
	}
	switch r.Command {
	case control.Balloon:
		size, err := machine.ParseSize(args[0])
		r.Size = &size
		return r, err
	case control.Link:
		card, err := strconv.Atoi(args[0])
		if err != nil || args[1] != "up" && args[1] != "down" {
			return r, fmt.Errorf("link %s %s: it takes a card's number and up or down", args[0], args[1])
		}
		up := args[1] == "up"
		r.Card, r.Up = card, &up
	case control.Step:
		cpu, err := strconv.Atoi(args[0])
		if err != nil {
			return r, fmt.Errorf("step %s: it takes a vCPU's number", args[0])
		}
		r.CPU = cpu
	case control.Type:
		r.Text = args[0] + "\n"
	}
	return r, nil
}

// controlled is a machine as its control socket sees it.
type controlled struct {
	*machine.Machine
	ctx     context.Context // of the run
	stop    func()
	config  machine.Config
	seconds func() float64

	statm, pagemap *os.File // of this process
	cage           *atomic.Pointer[sandbox.Cage]

	counting *counting
	console  *console.Recent
	names    trace.Symbols
	input    *typing
}

var _ control.Machine = controlled{}

func (c controlled) Stop() { c.stop() }

func (c controlled) Shutdown() error { return c.PressPowerButton() }

func (c controlled) Reboot() error { return c.PressCtrlAltDel() }

// Snapshot implements control.Machine.
func (c controlled) Snapshot(files []*os.File) error { return c.Save(files, c.pagemap) }

func (c controlled) Type(text string) error { return c.input.typeText(text) }

// typing is the way to the guest's console, which is there a moment after the
// control socket.
type typing struct{ input atomic.Pointer[console.Input] }

func (t *typing) typeText(text string) error {
	if i := t.input.Load(); i != nil {
		return i.Type([]byte(text))
	}
	return errors.New("the console is not there yet")
}

func (c controlled) Status() control.Status {
	s := control.Status{
		State: "running", PID: os.Getpid(), Seconds: c.seconds(),
		CPUs: c.config.CPUs, Memory: c.config.Memory, Resident: resident(c.statm), Exits: c.Stats().Exits,
	}
	if c.Paused() {
		s.State = "paused"
	}
	if target, actual, ok := c.BalloonSize(); ok {
		s.Balloon = &control.BalloonStatus{Target: target, Actual: actual, Guest: c.GuestMemory()}
	}
	return s
}

// resident is how much memory this process has in use, in bytes. proc(5),
// /proc/pid/statm.
func resident(statm *os.File) uint64 {
	text := make([]byte, 128)
	n, err := statm.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return 0
	}
	var size, pages uint64
	if _, err := fmt.Sscan(string(text[:n]), &size, &pages); err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
