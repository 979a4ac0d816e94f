package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"vmm/cmd/internal/cli"
	"vmm/untrusted"
)

// configFlags are the flags about the configuration file of "vmm boot": every other
// flag is a key of it.
type configFlags struct {
	path  string
	print bool
}

func (f *configFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.path, "config", "", "read flags from a `file` in TOML, or in JSON if its name ends with .json: each flag is a key,\nof which those that add up take lists; a flag of the command line replaces the file's")
	fl.BoolVar(&f.print, "print-config", false, "write the flags as such a file to standard output, and end")
}

// isKey reports whether a flag is a key of a configuration file.
func isKey(f *pflag.Flag) bool {
	return f != nil && !slices.Contains([]string{"config", "print-config", "help"}, f.Name)
}

// values are the values of a flag: one, or those of a flag that may be repeated.
type values []string

// maxConfig is how long a configuration file may be, in bytes.
const maxConfig = 1 << 20

// apply sets the flags that a configuration file has and the command line has not.
// It returns all of the file's.
func (f *configFlags) apply(flags *pflag.FlagSet) (map[string]values, error) {
	if f.path == "" {
		return nil, nil
	}
	all, err := readConfig(f.path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		flag := flags.Lookup(name)
		if !isKey(flag) {
			errs = append(errs, fmt.Errorf("%s: there is no flag --%s, and so no key %q", f.path, name, name))
			continue
		}
		if _, repeated := flag.Value.(cli.Repeated); !repeated && len(all[name]) != 1 {
			errs = append(errs, fmt.Errorf("%s: %s takes one value, and no list", f.path, name))
			continue
		}
		if flag.Changed {
			continue
		}
		for _, v := range all[name] {
			if err := flags.Set(name, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s = %q: %w", f.path, name, v, cmp.Or(errors.Unwrap(err), err)))
			}
		}
	}
	return all, errors.Join(errs...)
}

// readConfig reads a file of flags.
func readConfig(path string) (map[string]values, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > maxConfig {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxConfig)
	}
	var raw map[string]any
	if filepath.Ext(path) == ".json" {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err = d.Decode(&raw); err == nil {
			if _, end := d.Token(); end != io.EOF {
				err = errors.New("something follows the object")
			}
		}
	} else {
		err = toml.Unmarshal(text, &raw)
		if where := new(toml.DecodeError); errors.As(err, &where) {
			line, _ := where.Position()
			err = fmt.Errorf("line %d: %s", line, strings.TrimPrefix(where.Error(), "toml: "))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s", path, untrusted.Text(err.Error()))
	}
	all := map[string]values{}
	for name, v := range raw {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			text, err := flagText(v)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, untrusted.Text(name), err)
			}
			all[name] = append(all[name], text)
		}
		if len(list) == 0 {
			all[name] = values{}
		}
	}
	return all, nil
}

// flagText is a value of a configuration file as it is written for a flag.
func flagText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case json.Number:
		return v.String(), nil
	}
	return "", errors.New("a value is text, a whole number, true or false, or a list of text")
}

// writeConfig writes flags as a configuration file: those of a file, replaced by those of
// the command line.
func writeConfig(w io.Writer, flags *pflag.FlagSet, file map[string]values, line []string, balloon string) error {
	all := maps.Clone(file)
	if all == nil {
		all = map[string]values{}
	}
	typed := map[string]values{}
	if err := flags.ParseAll(line, func(f *pflag.Flag, v string) error {
		if f.Name == "balloon" { // without a value it has a space, or the argument that follows
			v = cmp.Or(balloon, strings.TrimSpace(v))
		}
		typed[f.Name] = append(typed[f.Name], v)
		return nil
	}); err != nil {
		return err
	}
	maps.Copy(all, typed)
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) { // in the order of the help
		if v, ok := all[f.Name]; ok && isKey(f) {
			fmt.Fprintf(&b, "%s = %s\n", f.Name, tomlValue(f, v))
		}
	})
	_, err := io.WriteString(w, b.String())
	return err
}

func tomlValue(f *pflag.Flag, all values) string {
	quoted := make([]string, len(all))
	for i, v := range all {
		quoted[i] = tomlString(v)
	}
	if _, repeated := f.Value.(cli.Repeated); repeated {
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	if t := f.Value.Type(); len(all) == 1 && (t == "bool" || t == "int") {
		return all[0]
	}
	return strings.Join(quoted, ", ")
}

// tomlString is a basic string of TOML, https://toml.io/en/v1.0.0#string: JSON's
// escapes are among its own.
func tomlString(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // text can be encoded
	return strings.TrimSuffix(strings.ReplaceAll(b.String(), "\x7f", `\u007f`), "\n")
}
