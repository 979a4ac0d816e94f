package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vmm/cmd/internal/cli"
	"vmm/run"
)

// The commands for machines that 'vmm run' has started.

func newPs() *cobra.Command {
	all, format := false, formatTable
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Show the machines that run images",
		Example: `  vmm ps
  vmm ps --all --format json`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			state, err := stateDir()
			if err != nil {
				return err
			}
			machines, err := run.List(state)
			if err != nil {
				return err
			}
			if format == formatJSON {
				return psJSON(machines, all)
			}
			return psTable(machines, all)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that have ended, too")
	cmd.Flags().Var(&cli.Choice[listFormat]{Value: &format, Values: []listFormat{formatTable, formatJSON}}, "format", "table, or json: an object a line")
	return cmd
}

// listFormat is how a list is written.
type listFormat string

const (
	formatTable listFormat = "table"
	formatJSON  listFormat = "json"
)

func psTable(machines []run.Record, all bool) error {
	t := tabwriter.NewWriter(cli.Out(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS")
	for _, m := range machines {
		if m.Running || all {
			fmt.Fprintf(t, "%s\t%s\t%s\t%.40q\t%s\t%s\t%s\n", m.ID, m.Name, m.Image, strings.Join(m.Command, " "),
				m.Created.Format(time.DateTime), status(m), strings.Join(m.Ports, ", "))
		}
	}
	return t.Flush()
}

// status is whether a machine runs, and how it ended.
func status(m run.Record) string {
	switch {
	case m.Running:
		return "running"
	case m.End.Error != "":
		return "failed"
	}
	return fmt.Sprintf("ended (%d)", m.End.Status)
}

func psJSON(machines []run.Record, all bool) error {
	out := json.NewEncoder(cli.Out())
	for _, m := range machines {
		if !m.Running && !all {
			continue
		}
		if err := out.Encode(struct {
			ID, Name, Image string
			Command         []string
			Created         time.Time
			Ports           []string `json:",omitempty"`
			Running         bool
			End             *run.End `json:",omitempty"`
		}{m.ID, m.Name, m.Image, m.Command, m.Created, m.Ports, m.Running, m.End}); err != nil {
			return err
		}
	}
	return nil
}

func newExec() *cobra.Command {
	var c run.ExecConfig
	cmd := &cobra.Command{
		Use:   "exec [FLAG...] MACHINE COMMAND [ARG...]",
		Short: "Execute a program in a machine that runs an image",
		Long: `Execute a program beside the one of a machine that 'vmm run' has started. It has
the environment, working folder, user and capabilities of that, and ends with it.
MACHINE is a name, or the begin of an ID.

The exit status is that of the program, or as with 'vmm run'.`,
		Example: `  vmm exec web cat /etc/os-release
  vmm exec -it web sh`,
		Args: cli.Usage(cli.Args(2, -1)),
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if c.State, err = stateDir(); err != nil {
				return err
			}
			c.Machine, c.Command = args[0], args[1:]
			c.In, c.Out, c.Err = os.Stdin, os.Stdout, os.Stderr
			return ended(run.Exec(c, programSignals()))
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.SetInterspersed(false)
	fl.BoolVarP(&c.Input, "interactive", "i", false, "standard input is the program's")
	fl.BoolVarP(&c.Terminal, "tty", "t", false, "give the program a terminal")
	fl.StringArrayVarP(&c.Env, "env", "e", nil, "set a `variable`: NAME=VALUE, or NAME for the value here; may be repeated")
	fl.StringVarP(&c.Dir, "workdir", "w", "", "working `folder` in the guest")
	fl.StringVarP(&c.User, "user", "u", "", "`user` of the program, by name or number, and perhaps :GROUP")
	return cmd
}

func newLogs() *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use:   "logs MACHINE",
		Short: "Show what the program of a detached machine has said",
		Long: `Show what the program of a machine that was started with 'vmm run -d' has written to
its standard output and error: of the last 16 MiB at least.`,
		Example: `  vmm logs web
  vmm logs -f web`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := stateDir()
			if err != nil {
				return err
			}
			ctx, stop := cli.NotifyContext(cmd.Context())
			defer stop()
			return run.Logs(state, args[0], follow, ctx.Done(), os.Stdout)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the machine ends")
	return cmd
}

func newStop() *cobra.Command {
	seconds := 10
	cmd := &cobra.Command{
		Use:   "stop MACHINE...",
		Short: "Ask the program of a machine to end",
		Long: `Send the program of a machine the image's stop signal, SIGTERM if it names none, and
end the machine if it has not ended after a while.`,
		Example: "  vmm stop web\n  vmm stop -t 60 database",
		Args:    cli.Usage(cli.Args(1, -1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if seconds < 0 {
				return cli.UsageError{Err: fmt.Errorf("--time %d: choose 0 or more seconds", seconds)}
			}
			return eachMachine(args, func(state, m string) error { return run.Stop(state, m, time.Duration(seconds)*time.Second) })
		},
	}
	cmd.Flags().IntVarP(&seconds, "time", "t", seconds, "`seconds` that the program has to end")
	return cmd
}

func newKill() *cobra.Command {
	name := "KILL"
	cmd := &cobra.Command{
		Use:     "kill MACHINE...",
		Short:   "Send the program of a machine a signal",
		Example: "  vmm kill web\n  vmm kill -s HUP web",
		Args:    cli.Usage(cli.Args(1, -1)),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := run.ParseSignal(name)
			if err != nil {
				return cli.UsageError{Err: err}
			}
			return eachMachine(args, func(state, m string) error { return run.Kill(state, m, n) })
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", name, "`signal` to send, by name or number")
	return cmd
}

func newRm() *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:     "rm MACHINE...",
		Short:   "Remove what is kept of detached machines that have ended",
		Example: "  vmm rm web\n  vmm rm --force web",
		Args:    cli.Usage(cli.Args(1, -1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return eachMachine(args, func(state, m string) error { return run.Remove(state, m, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end those that run")
	return cmd
}

// eachMachine does something with each of several machines, and prints which.
func eachMachine(names []string, do func(state, machine string) error) error {
	state, err := stateDir()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range names {
		if err := do(state, m); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(cli.Out(), m)
	}
	return errors.Join(errs...)
}

// programSignals are the signals that the program of a guest gets.
func programSignals() <-chan os.Signal {
	// A reader that goes away comes as an error of the write.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 16)
	cli.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, unix.SIGWINCH)
	return signals
}

// ended is how a command ends whose program has.
func ended(status int, err error) error {
	switch {
	case err != nil && status == 0:
		return cli.StatusError{Err: err, Status: runFailed}
	case err != nil:
		return cli.StatusError{Err: err, Status: status}
	case status != 0:
		return cli.ExitStatus(status)
	}
	return nil
}
