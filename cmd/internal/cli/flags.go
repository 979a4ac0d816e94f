package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmm/machine"
)

// Size is a flag with a number of bytes, written like 512M.
type Size uint64

func (s *Size) String() string { return machine.FormatSize(uint64(*s)) }

// Type implements pflag.Value.
func (s *Size) Type() string { return "size" }

// Set implements pflag.Value.
func (s *Size) Set(v string) error {
	n, err := machine.ParseSize(v)
	*s = Size(n)
	return err
}

// Choice is a flag with one of a few values.
type Choice[T ~string] struct {
	Value  *T
	Values []T
}

func (c *Choice[T]) String() string {
	if c.Value == nil {
		return ""
	}
	return string(*c.Value)
}

// Type implements pflag.Value.
func (c *Choice[T]) Type() string { return "name" }

// Set implements pflag.Value.
func (c *Choice[T]) Set(v string) error {
	if !slices.Contains(c.Values, T(v)) {
		var names []string
		for _, v := range c.Values {
			names = append(names, string(v))
		}
		return fmt.Errorf("choose one of %s", strings.Join(names, ", "))
	}
	*c.Value = T(v)
	return nil
}

// Words is a flag whose values add up to a line of words.
type Words string

func (w *Words) String() string { return string(*w) }

// Type implements pflag.Value.
func (w *Words) Type() string { return "words" }

// Set implements pflag.Value.
func (w *Words) Set(v string) error {
	*w = Words(strings.TrimSpace(string(*w) + " " + strings.TrimSpace(v)))
	return nil
}

// AddsUp implements Repeated.
func (w *Words) AddsUp() {}

// Repeated is a flag that may be given several times: its values add up.
type Repeated interface {
	pflag.Value
	AddsUp()
}

// errTwice refuses the second value of a flag.
var errTwice = errors.New("given twice: one of the two would be lost")

// once is a flag that may be given once: of two values, one would be lost without
// a word.
type once struct {
	pflag.Value
	given bool
}

func (o *once) Set(v string) error {
	if o.given {
		return errTwice
	}
	err := o.Value.Set(v)
	o.given = err == nil
	return err
}

// RefuseRepeats has each flag of a command, and of those below it, refuse a second
// value, unless its values add up.
func RefuseRepeats(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		_, list := f.Value.(pflag.SliceValue)
		_, repeated := f.Value.(Repeated)
		if !list && !repeated {
			f.Value = &once{Value: f.Value}
			if f.DefValue == "0s" { // pflag knows that it goes without saying of its own durations only
				f.DefValue = ""
			}
		}
	})
	for _, c := range cmd.Commands() {
		RefuseRepeats(c)
	}
}
