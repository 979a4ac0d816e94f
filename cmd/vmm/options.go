package main

import (
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
	key   string
	alias string // another name for key
	// set takes the value. It is nil for a key that takes none.
	set func(value string) error
	// on is called for a key without a value. It is nil for one that needs one.
	on       func()
	required bool
	many     bool // may be given several times
}

// splitOptions takes text apart at its commas. Two commas stand for one that belongs
// to a value, such as a path, as with QEMU.
func splitOptions(text string) []string {
	var words []string
	var word strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != ',':
			word.WriteByte(text[i])
		case i+1 < len(text) && text[i+1] == ',':
			word.WriteByte(',')
			i++
		default:
			words = append(words, word.String())
			word.Reset()
		}
	}
	return append(words, word.String())
}

// parseOptions takes text apart into options.
func parseOptions(text string, options ...option) error {
	seen := map[string]bool{}
	for n, word := range splitOptions(text) {
		key, value, hasValue := strings.Cut(word, "=")
		i := slices.IndexFunc(options, func(o option) bool { return o.key == key || o.alias == key && key != "" })
		if i < 0 {
			return unknownKey(n, word, options)
		}
		o := options[i]
		switch {
		case seen[o.key] && !o.many:
			return fmt.Errorf("%s is given twice", o.key)
		case o.set == nil && hasValue:
			return fmt.Errorf("%s takes no value", key)
		case o.on == nil && value == "", hasValue && value == "":
			return fmt.Errorf("%s needs a value, as in %s=VALUE", key, key)
		}
		seen[o.key] = true
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

// unknownKey is about the n-th word, which names none of the options: without an
// equals sign perhaps a path, of which the key was left out, or a part of one with
// a comma in it.
func unknownKey(n int, word string, options []option) error {
	key, _, hasValue := strings.Cut(word, "=")
	hint := ""
	switch {
	case hasValue:
	case n > 0:
		hint = "; a comma in a value is written twice"
	case options[0].key == "path":
		hint = "; write path=" + strings.ReplaceAll(word, ",", ",,")
	}
	return fmt.Errorf("%q is not one of its keys: %s%s", key, keys(options), hint)
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

// or gives an option another name.
func (o option) or(alias string) option {
	o.alias = alias
	return o
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

// AddsUp implements cli.Repeated.
func (l *listFlag[T]) AddsUp() {}

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
	*d.device, err = d.parse(v)
	return err
}
