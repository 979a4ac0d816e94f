package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmm/cmd/internal/cli"
)

// samples are values that flags take, by name, where the default is none.
var samples = map[string]string{
	"balloon": "size=1M", "boot-protocol": "pvh", "debug-exit": "0xf4", "disk": "path=a", "gdb": "g.sock", "kaslr": "off",
	"kernel": "k", "initrd": "i", "memory": "64M", "module": "path=m", "net": "user", "ready": "marker:1", "share": "path=.,tag=t", "thp": "on",
	"timeout": "1s", "after": "30s", "trace-filter": "device=COM1", "vsock": "cid=3,uds=v",
}

// Every flag of every command either adds up or refuses to be given twice.
func TestRepeatedFlags(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			n++
			v := samples[f.Name]
			if v == "" {
				v = f.DefValue
			}
			if v == "" {
				v = "text"
			}
			if err := f.Value.Set(v); err != nil {
				t.Errorf("%s --%s=%s: %v", c.CommandPath(), f.Name, v, err)
			}
			err := f.Value.Set(v)
			_, repeated := f.Value.(cli.Repeated)
			if repeated != (err == nil) {
				t.Errorf("%s --%s twice: %v", c.CommandPath(), f.Name, err)
			}
			if help := strings.Contains(f.Usage, "may be repeated"); help != repeated {
				t.Errorf("%s --%s: the help says that it may be repeated: %v", c.CommandPath(), f.Name, help)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	root := newRoot()
	cli.RefuseRepeats(root)
	walk(root)
	if n < 100 {
		t.Errorf("only %d flags were looked at", n)
	}
}

// The words of several --append add up.
func TestAppendTwice(t *testing.T) {
	var f bootFlags
	for _, v := range []string{"quiet", " loglevel=8 ", "init=/bin/sh"} {
		if err := f.append.Set(v); err != nil {
			t.Fatal(err)
		}
	}
	f.kernel, f.noCache = "k", true
	cfg, err := f.config(false)
	if err != nil {
		t.Fatal(err)
	}
	if want := "quiet loglevel=8 init=/bin/sh"; cfg.Append != want {
		t.Errorf("Append = %q, want %q", cfg.Append, want)
	}
}
