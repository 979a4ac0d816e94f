// Command vmm is a virtual machine monitor on Linux KVM.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmm/doctor"
)

// version is set by the build: -ldflags "-X main.version=...".
var version = "devel"

// Exit statuses, besides those of a guest's debug-exit port and 128 plus the
// signal that ended vmm.
const (
	statusOK      = 0
	statusError   = 1   // an error of vmm or the host
	statusUsage   = 2   // the command line makes no sense
	statusCrash   = 3   // the guest crashed
	statusTimeout = 124 // --timeout ran out, as with timeout(1)
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes the command line and returns the exit status.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.Execute()
	var status exitStatus
	switch {
	case err == nil:
		return statusOK
	case errors.As(err, &status):
		return int(status)
	}
	if fix := doctor.Fix(err); fix != "" {
		err = fmt.Errorf("%w; %s", err, fix)
	}
	fmt.Fprintf(os.Stderr, "vmm: %v\n", err)
	if isUsage(err) {
		return statusUsage
	}
	return statusError
}

// exitStatus is an error that has been reported already: nothing is left but
// to exit with it.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a command line that names things that do not exist. A wrong
// value of a flag that does is an ordinary error.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func isUsage(err error) bool {
	var usage usageError
	return errors.As(err, &usage)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "vmm",
		Short: "Boot virtual machines on Linux KVM",
		Long: `vmm is a virtual machine monitor: it boots a Linux kernel and an initrd in a
virtual machine on Linux KVM, and shows how that works.`,
		Example: `  vmm boot --kernel /boot/vmlinuz --initrd initrd.cpio
  vmm doctor
  vmm inspect kernel /boot/vmlinuz`,
		Args:          usage(cobra.NoArgs),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var value *pflag.InvalidValueError
		if errors.As(err, &value) {
			return fmt.Errorf("--%s %q: %w", value.GetFlag().Name, value.GetValue(), value.Unwrap())
		}
		return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.AddCommand(newBoot(), newCtl(), newDoctor(), newImage(), newInspect(), newVersion())
	return root
}

// usage marks an error about a command's arguments as one of usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
		}
		return nil
	}
}
