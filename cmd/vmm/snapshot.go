package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/machine"
	"vmm/snapshot"
	"vmm/untrusted"
)

func newSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Look at a saved virtual machine, and check it",
		Long: `Look at the snapshot of a virtual machine, which 'vmm ctl PATH snapshot DIR' takes and
'vmm restore DIR' goes on with.`,
		Example: `  vmm snapshot info vm.snapshot
  vmm snapshot verify vm.snapshot`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "info DIR",
			Short: "Show what a snapshot holds",
			Args:  cli.Usage(cli.Args(1, 1)),
			RunE:  showSnapshot,
		},
		&cobra.Command{
			Use:   "verify DIR",
			Short: "Compare a snapshot with its checksums",
			Args:  cli.Usage(cli.Args(1, 1)),
			RunE: func(_ *cobra.Command, args []string) error {
				s, _, err := openSnapshot(args[0])
				if err != nil {
					return err
				}
				defer s.Close()
				return s.Verify()
			},
		})
	return cmd
}

// showSnapshot shows what a snapshot holds, of which its paths and command line may be
// anybody's.
func showSnapshot(cmd *cobra.Command, args []string) error {
	s, saved, err := openSnapshot(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	stored, err := s.Stored()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(untrusted.Writer(cmd.OutOrStdout()), 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", name, untrusted.Text(fmt.Sprintf(format, args...)))
	}
	spec := &saved.Spec
	line("saved", "%s", saved.Time.Local().Format(time.RFC1123))
	line("kernel", "%s", spec.Kernel)
	line("command line", "%s", spec.Cmdline)
	line("processors", "%d", spec.CPUs)
	line("memory", "%s, %s of it stored", machine.FormatSize(spec.Memory), machine.FormatSize(stored))
	for _, d := range spec.Disks {
		line("disk", "%s, %s, %s%s", d.Path, d.Format, machine.FormatSize(uint64(max(d.Image.Size, 0))), readOnly(d.ReadOnly))
	}
	for _, n := range spec.Nets {
		to := "a network of its own"
		if n.Tap != "" {
			to = "tap " + n.Tap
		}
		line("network card", "%v, connected to %s", n.MAC, to)
	}
	for _, d := range spec.Shares {
		line("share", "%s, %s%s", d.Tag, d.Path, readOnly(d.ReadOnly))
	}
	if v := spec.Vsock; v != nil {
		line("vsock", "CID %d, %s", v.CID, v.Path)
	}
	if features := saved.Features(); len(features) > 0 {
		line("processor needs", "%s", strings.Join(features, " "))
	}
	return w.Flush()
}

func readOnly(ro bool) string {
	if ro {
		return ", read-only"
	}
	return ""
}

// takeSnapshot saves the machine at a control socket in a folder. The files are made here
// and handed to vmm, which is in a sandbox and can make none. With stop, the machine does
// not go on before it ends: what its guest did then would be on its disks, and not in the
// snapshot.
func takeSnapshot(socket, dir string, stop bool) (err error) {
	c, err := control.Dial(socket)
	if err != nil {
		return err
	}
	defer c.Close()
	place, err := snapshot.Create(dir)
	if err != nil {
		return err
	}
	defer place.Close()
	ask := func(command string, files ...*os.File) {
		if err == nil {
			if _, err = c.CallWith(control.Request{Command: command}, files); err != nil {
				err = fmt.Errorf("%s: %w", socket, err)
			}
		}
	}
	if stop {
		var status control.Response
		if status, err = c.Call(control.Request{Command: control.ShowAll}); err != nil {
			return fmt.Errorf("%s: %w", socket, err)
		}
		defer func() {
			if err != nil && status.Status != nil && status.Status.State == "running" {
				_, _ = c.Call(control.Request{Command: control.Resume})
			}
		}()
		ask(control.Pause)
	}
	ask(control.TakeSnapshot, place.Files()...)
	if err == nil {
		err = place.Commit()
	}
	if stop {
		ask(control.Stop)
	}
	return err
}
