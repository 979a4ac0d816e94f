package cli

import (
	"fmt"
	"slices"
	"strings"

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
