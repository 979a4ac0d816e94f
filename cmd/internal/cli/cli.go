// Package cli is what the project's commands have in common: how a command line
// is executed, how errors become messages and exit statuses, and kinds of flags.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmm/untrusted"
)

// Out and Err are standard output and standard error for all that a person reads.
// What guests, kernels, images and other programs say is part of it, and obeyed by no
// terminal. A guest's console is not meant: that is between the guest and its user.

// Out is standard output.
func Out() io.Writer { return untrusted.Writer(os.Stdout) }

// Err is standard error.
func Err() io.Writer { return untrusted.Writer(os.Stderr) }

// Exit statuses, besides those of a guest's debug-exit port and 128 plus the
// signal that ended vmm.
const (
	OK      = 0
	Failed  = 1   // an error of vmm or the host
	Misused = 2   // the command line makes no sense
	Crashed = 3   // the guest crashed
	Timeout = 124 // --timeout ran out, as with timeout(1)
)

// Prepare makes a command the root of a program: one whose errors are reported
// by Run, and which alone shows its help.
func Prepare(root *cobra.Command) {
	root.SetOut(Out())
	root.SetErr(Err())
	root.Args = Usage(NoArgs)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetUsageFunc(usage)
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var value *pflag.InvalidValueError
		if errors.As(err, &value) {
			flag, why := value.GetFlag(), value.Unwrap()
			if w, ok := wanted[flag.Value.Type()]; ok && !errors.Is(why, errTwice) {
				why = errors.New(w) // instead of what strconv and time say
			}
			return UsageError{fmt.Errorf("--%s %q: %w", flag.Name, value.GetValue(), why)}
		}
		return Misuse(cmd, flagError(err))
	})
}

// flagError says in our words what pflag says in its own.
func flagError(err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Errorf("there is no flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return fmt.Errorf("there is no flag --%s", unknown.GetSpecifiedName())
	case errors.As(err, &missing):
		return fmt.Errorf("--%s needs a value", missing.GetFlag().Name)
	}
	return err
}

// wanted says what values the types of pflag take.
var wanted = map[string]string{
	"bool":     "choose true or false",
	"duration": "write a time with a unit, such as 30s or 5m",
	"int":      "write a whole number",
}

// Run executes a command line and returns the exit status. The message of an
// error ends with what fix says of it, if anything.
func Run(root *cobra.Command, args []string, fix func(error) string) int {
	RefuseRepeats(root)
	root.SetArgs(args)
	err := root.Execute()
	var status ExitStatus
	switch {
	case err == nil:
		return OK
	case errors.As(err, &status):
		return int(status)
	}
	if advice := fix(err); advice != "" {
		err = fmt.Errorf("%w; %s", err, advice)
	}
	return Report(err)
}

// Report prints an error and returns the exit status for it.
func Report(err error) int {
	fmt.Fprintf(Err(), "vmm: %s\n", Message(err.Error()))
	var usage UsageError
	var other StatusError
	switch {
	case errors.As(err, &usage):
		return Misused
	case errors.As(err, &other):
		return other.Status
	}
	return Failed
}

// Message is a message of several lines with all but the first indented: part of it
// may be another's, who could write a line like ours.
func Message(text string) string { return strings.ReplaceAll(text, "\n", "\n  ") }

// ExitStatus is an error that has been reported already: nothing is left but
// to exit with it.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// StatusError is an error with an exit status of its own.
type StatusError struct {
	Err    error
	Status int
}

func (e StatusError) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e StatusError) Unwrap() error { return e.Err }

// UsageError is a command line that makes no sense: it names something that does
// not exist, or gives a flag a value that it cannot have.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e UsageError) Unwrap() error { return e.Err }

// Misuse marks an error as one of usage, and points to the command's help.
func Misuse(cmd *cobra.Command, err error) error {
	return UsageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
}

// NoArgs is for a command that takes no arguments, or only those of its commands.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return fmt.Errorf("%q belongs to no flag", args[0])
	}
	near := ""
	cmd.SuggestionsMinimumDistance = max(cmd.SuggestionsMinimumDistance, 2) // letters; cobra's own choice
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		near = fmt.Sprintf("; did you mean %q?", names[0])
	}
	return fmt.Errorf("there is no command %q%s", cmd.CommandPath()+" "+args[0], near)
}

// Args is for a command that takes at least low and at most high arguments; a high
// of -1 is no limit.
func Args(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && (len(args) <= high || high < 0) {
			return nil
		}
		what := "too many arguments"
		if len(args) < low {
			what = "something is missing"
		}
		return fmt.Errorf("%s: it is '%s %s'", what, cmd.Parent().CommandPath(), cmd.Use)
	}
}

// Usage marks an error about a command's arguments as one of usage.
func Usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return Misuse(cmd, err)
		}
		return nil
	}
}
