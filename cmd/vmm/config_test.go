package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"vmm/cmd/internal/cli"
)

// configFile is a file with a text.
func configFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bootSet is the flags of vmm boot after a command line.
func bootSet(t *testing.T, line ...string) *pflag.FlagSet {
	t.Helper()
	cmd := newBoot()
	cli.RefuseRepeats(cmd)
	if err := cmd.ParseFlags(line); err != nil {
		t.Fatal(err)
	}
	return cmd.Flags()
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct{ name, file, text, want string }{
		{"unknown key", "vmm.toml", `memroy = "1G"`, `no key "memroy"`},
		{"unknown key of JSON", "vmm.json", `{"memroy": "1G"}`, `no key "memroy"`},
		{"all of them", "vmm.toml", "a = 1\nb = 2", `no key "b"`},
		{"the file's own flag", "vmm.toml", `config = "vmm.toml"`, `no key "config"`},
		{"bad value", "vmm.toml", `cpus = "two"`, `cpus = "two"`},
		{"list for one value", "vmm.toml", `kernel = ["a", "b"]`, "no list"},
		{"table", "vmm.toml", "[disk]\npath = \"a\"", "a value is text"},
		{"fraction", "vmm.toml", "cpus = 1.5", "a value is text"},
		{"twice", "vmm.toml", "cpus = 1\ncpus = 2", "cpus"},
		{"no TOML", "vmm.toml", "cpus", "line 1"},
		{"no JSON", "vmm.json", "cpus = 1", "invalid character"},
		{"more than JSON", "vmm.json", "{} {}", "follows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := configFlags{path: configFile(t, tt.file, tt.text)}
			_, err := f.apply(bootSet(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	f := configFlags{path: filepath.Join(t.TempDir(), "none.toml")}
	if _, err := f.apply(bootSet(t)); err == nil {
		t.Error("a file that is not there is read")
	}
}

// What --print-config writes is read back, whatever the values, by --config in
// either form; the command line replaces what the file has.
func TestConfigRoundTrip(t *testing.T) {
	line := []string{
		"--kernel", "a \"b\"\\c\x7fü.elf", "--cpus=4", "--memory", "1.5G", "--append", "x=1", "--append", "y",
		"--disk", "path=a,,b.img,ro", "--disk=path=c", "--rng=false", "--balloon", "--timeout", "30s", "--debug-exit",
	}
	var written bytes.Buffer
	if err := writeConfig(&written, bootSet(t, line...), nil, line, ""); err != nil {
		t.Fatal(err)
	}
	want := "kernel = \"a \\\"b\\\"\\\\c\\u007fü.elf\"\nappend = [\"x=1\", \"y\"]\nmemory = \"1.5G\"\ncpus = 4\n" +
		"disk = [\"path=a,,b.img,ro\", \"path=c\"]\nballoon = \"\"\nrng = false\ndebug-exit = \"0xf4\"\ntimeout = \"30s\"\n"
	if diff := cmp.Diff(want, written.String()); diff != "" {
		t.Error(diff)
	}

	flags := bootSet(t, "--cpus", "2", "--disk", "path=d")
	f := configFlags{path: configFile(t, "vmm.toml", written.String())}
	file, err := f.apply(flags)
	if err != nil {
		t.Fatal(err)
	}
	if got := flags.Lookup("cpus").Value.String(); got != "2" {
		t.Errorf("--cpus is %s", got)
	}
	if got := flags.Lookup("append").Value.String(); got != "x=1 y" {
		t.Errorf("--append is %q", got)
	}
	var again bytes.Buffer
	if err := writeConfig(&again, flags, file, []string{"--cpus", "2", "--disk", "path=d"}, ""); err != nil {
		t.Fatal(err)
	}
	want = strings.NewReplacer("cpus = 4", "cpus = 2", `disk = ["path=a,,b.img,ro", "path=c"]`, `disk = ["path=d"]`).Replace(want)
	if diff := cmp.Diff(want, again.String()); diff != "" {
		t.Error(diff)
	}

	json := configFlags{path: configFile(t, "vmm.json", `{"cpus": 4, "append": ["x", "y"], "rng": false, "kernel": "k"}`)}
	flags = bootSet(t)
	if _, err := json.apply(flags); err != nil {
		t.Fatal(err)
	}
	if c, a := flags.Lookup("cpus").Value.String(), flags.Lookup("append").Value.String(); c != "4" || a != "x y" {
		t.Errorf("of JSON: --cpus %s --append %q", c, a)
	}
}
