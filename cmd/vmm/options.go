package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vmm/cmd/internal/cli"
	"vmm/machine"
)

// option is one of the keys that a device's flag takes, as in
// "path=FILE,ro,queues=2".
type option struct {
	key string
	// set takes the value. It is nil for a key that takes none.
	set func(value string) error
	// on is called for a key without a value. It is nil for one that needs one.
	on       func()
	required bool
	many     bool // may be given several times
}

// parseOptions takes text apart into options.
func parseOptions(text string, options ...option) error {
	seen := map[string]bool{}
	for word := range strings.SplitSeq(text, ",") {
		key, value, hasValue := strings.Cut(word, "=")
		i := slices.IndexFunc(options, func(o option) bool { return o.key == key })
		if i < 0 {
			return fmt.Errorf("%q is not one of its keys: %s", key, keys(options))
		}
		o := options[i]
		switch {
		case seen[key] && !o.many:
			return fmt.Errorf("%s is given twice", key)
		case o.set == nil && hasValue:
			return fmt.Errorf("%s takes no value", key)
		case o.on == nil && value == "", hasValue && value == "":
			return fmt.Errorf("%s needs a value, as in %s=VALUE", key, key)
		}
		seen[key] = true
		if !hasValue {
			o.on()
		} else if err := o.set(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	for _, o := range options {
		if o.required && !seen[o.key] {
			return fmt.Errorf("it lacks %s=VALUE", o.key)
		}
	}
	return nil
}

func keys(options []option) string {
	var names []string
	for _, o := range options {
		names = append(names, o.key)
	}
	return strings.Join(names, ", ")
}

// text, choice, flag, number and size are kinds of options.
func text(key string, p *string) option {
	return option{key: key, set: func(v string) error { *p = v; return nil }}
}

func choice[T ~string](key string, p *T, values ...T) option {
	return option{key: key, set: (&cli.Choice[T]{Value: p, Values: values}).Set}
}

func flag(key string, p *bool) option { return option{key: key, on: func() { *p = true }} }

func number(key string, p *int, low, high int) option {
	return option{key: key, set: func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q is not a number from %d to %d", v, low, high)
		}
		*p = n
		return nil
	}}
}

func size(key string, p *int) option {
	return option{key: key, set: func(v string) error {
		n, err := machine.ParseSize(v)
		if err == nil && (n == 0 || n > 1<<62) {
			err = fmt.Errorf("%q is out of range", v)
		}
		*p = int(n)
		return err
	}}
}

func (o option) must() option {
	o.required = true
	return o
}

// listFlag is a flag that may be given several times, each adding to a list.
type listFlag[T any] struct {
	list  *[]T
	parse func(string) (T, error)
	kind  string
}

func (l *listFlag[T]) String() string { return "" }
func (l *listFlag[T]) Type() string   { return l.kind }
func (l *listFlag[T]) Set(v string) error {
	item, err := l.parse(v)
	if err != nil {
		return err
	}
	*l.list = append(*l.list, item)
	return nil
}

// deviceFlag is a flag that adds a device of which there is one.
type deviceFlag[T any] struct {
	device **T
	parse  func(string) (*T, error)
	kind   string
}

func (d *deviceFlag[T]) String() string { return "" }
func (d *deviceFlag[T]) Type() string   { return d.kind }
func (d *deviceFlag[T]) Set(v string) (err error) {
	if *d.device != nil {
		return errors.New("there is only one")
	}
	*d.device, err = d.parse(v)
	return err
}
