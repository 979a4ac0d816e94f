package machine

import (
	"strings"
	"testing"

	"vmm/boot"
	"vmm/devices/virtio/balloon"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "4096": 4096, "1K": 1 << 10, "512M": 512 << 20, "512m": 512 << 20, "8G": 8 << 30, "2T": 2 << 40,
		"512MiB": 512 << 20, "512MB": 512 << 20, "16777215T": 16777215 << 40,
		"1.5G": 3 << 29, "0.5M": 1 << 19, "1.25K": 1280, "1.3G": 1331 << 20, "2.000000000M": 2 << 20, "0.999T": 1022 << 30,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5", "1.G", ".5G", "1.5.5G", "1.-5G", "1.0000000000G", "512 M", "1P", "MM", "0x10", "16777216T", "18446744073709551616"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 1: "1", 1023: "1023", 1 << 10: "1K", 1536: "1536", 512 << 20: "512M", 3 << 29: "1536M", 1 << 50: "1024T",
	} {
		got := FormatSize(n)
		if got != want {
			t.Errorf("FormatSize(%d) = %q; want %q", n, got, want)
		}
		if back, err := ParseSize(got); err != nil || back != n {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", got, back, err, n)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Config{Memory: 64 << 20, CPUs: 1}
	tests := []struct {
		name string
		edit func(*Config)
		want string // a part of the error, "" for none
	}{
		{"good", func(*Config) {}, ""},
		{"all processors", func(c *Config) { c.CPUs = MaxCPUs }, ""},
		{"the least memory", func(c *Config) { c.Memory = minMemory }, ""},
		{"no processor", func(c *Config) { c.CPUs = 0 }, "between 1 and 64"},
		{"fewer than none", func(c *Config) { c.CPUs = -1 }, "between 1 and 64"},
		{"too many processors", func(c *Config) { c.CPUs = MaxCPUs + 1 }, "between 1 and 64"},
		{"no memory", func(c *Config) { c.Memory = 0 }, "no memory"},
		{"little memory", func(c *Config) { c.Memory = minMemory - 4096 }, "less than the 2M"},
		{"half a page", func(c *Config) { c.Memory += 2048 }, "the next size that is: 65540K"},
		{"half a huge page", func(c *Config) { c.Memory += 1 << 20; c.HugePages = true }, "the next size that is: 66M"},
		{"two shares", func(c *Config) { c.Shares = []Share{{Path: "a", Tag: "x"}, {Path: "a", Tag: "y"}} }, ""},
		{"two shares of one name", func(c *Config) { c.Shares = []Share{{Path: "a", Tag: "x"}, {Path: "b", Tag: "x"}} }, "share b: another has the tag"},
		{"a balloon of all memory", func(c *Config) { c.Balloon = &balloon.Config{Size: 64 << 20} }, ""},
		{"a balloon of more", func(c *Config) { c.Balloon = &balloon.Config{Size: 65 << 20} }, "a balloon of 68157440 bytes: the machine has 67108864"},
		{"more than there is", func(c *Config) { c.Memory = 1 << 60 }, "choose at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.edit(&c)
			switch err := c.Validate(); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Validate = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestCmdline(t *testing.T) {
	own, none := "root=/dev/vda", ""
	for _, tt := range []struct {
		c        Config
		protocol boot.Protocol
		want     string
	}{
		{Config{}, boot.Direct, DefaultCmdline},
		{Config{Append: "quiet"}, boot.Direct, DefaultCmdline + " quiet"},
		{Config{Cmdline: &own}, boot.Direct, own},
		{Config{Cmdline: &own, Append: "quiet"}, boot.PVH, own + " quiet"},
		{Config{Cmdline: &none}, boot.Direct, ""},
		{Config{VirtioConsole: true}, boot.Direct, "earlyprintk=ttyS0 console=hvc0 panic=-1 reboot=panic_warm"},
		{Config{}, boot.Multiboot, ""},
		{Config{Append: "-v"}, boot.Multiboot, "-v"},
		{Config{Cmdline: &own}, boot.Multiboot, own},
	} {
		if got := tt.c.cmdline(tt.protocol); got != tt.want {
			t.Errorf("command line %q; want %q", got, tt.want)
		}
	}
}
