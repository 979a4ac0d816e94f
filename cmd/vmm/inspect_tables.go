package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"vmm/boot/acpi"
	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/cpuid"
	"vmm/machine"
	"vmm/untrusted"
)

// isSocket reports whether a path leads to a running machine, and not to a file
// with something of one.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

func newInspectACPI() *cobra.Command {
	var asJSON bool
	var out string
	cmd := &cobra.Command{
		Use:   "acpi PATH",
		Short: "Show ACPI tables, and write them to files for iasl",
		Long: `List the ACPI tables of the machine that was started with --control PATH, as they
are in its memory now, or those in a file of one or more tables.

With --out, each is written to a file of its own, as iasl (package acpica-tools)
takes it: 'iasl -d DIR/dsdt.dat' disassembles one.`,
		Example: `  vmm inspect acpi vm.sock
  vmm inspect acpi vm.sock --out tables && iasl -d tables/dsdt.dat
  vmm inspect acpi tables/apic.dat`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tables, err := acpiTables(args[0])
			if err != nil {
				return err
			}
			if out != "" {
				return writeTables(out, tables)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), tables)
			}
			untrusted.Clean(tables)
			for _, t := range tables {
				sum := "checksum good"
				if !t.Valid {
					sum = "checksum BAD"
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-8s %#8x  %6d bytes  revision %d  OEM %-6s  %s\n", t.Signature, t.Addr, len(t.Data), t.Revision, t.OEM, sum); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON, the data in base64")
	cmd.Flags().StringVar(&out, "out", "", "write the tables to files in this `folder`")
	return cmd
}

// maxTables is how large a file of tables may be, in bytes.
const maxTables = 64 << 20

// acpiTables are those of a running machine, or in a file.
func acpiTables(path string) ([]acpi.Found, error) {
	if isSocket(path) {
		return ask[[]acpi.Found](path, control.Request{What: inspectACPI})
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("acpi: %w", err)
	}
	defer f.Close()
	data, err := untrusted.ReadAll(f, maxTables)
	if err != nil {
		return nil, fmt.Errorf("acpi: %s: %w", path, err)
	}
	return acpi.Parse(data)
}

// writeTables writes each table to a file with its name, and a number where
// there are several.
func writeTables(dir string, tables []acpi.Found) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("acpi: %w", err)
	}
	count := map[string]int{}
	for _, t := range tables {
		// A name may come from a guest.
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, strings.ToLower(t.Signature))
		if count[name]++; count[name] > 1 {
			name += fmt.Sprint(count[name])
		}
		if err := os.WriteFile(filepath.Join(dir, name+".dat"), t.Data, 0o666); err != nil {
			return fmt.Errorf("acpi: %w", err)
		}
	}
	return nil
}

func newInspectCPUID() *cobra.Command {
	var asJSON, different bool
	var cpu int
	var whose string
	cmd := &cobra.Command{
		Use:   "cpuid [PATH]",
		Short: "Show what CPUID says on the host, in KVM and in a guest",
		Long: `Show what the CPUID instruction says: on this host's processor, what of that KVM
offers to guests, and, with the PATH of a running machine's control socket, what the
guest sees. Features have the names of /proc/cpuinfo.`,
		Example: `  vmm inspect cpuid
  vmm inspect cpuid vm.sock --diff
  vmm inspect cpuid vm.sock --vcpu 1 --of guest`,
		Args: cli.Usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := cpuidPlaces(args, cpu)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), p)
			}
			untrusted.Clean(&p)
			list := []cpuid.Where{{Name: "host", Leaves: p.Host}, {Name: "KVM", Leaves: p.KVM}}
			if len(args) > 0 {
				list = append(list, cpuid.Where{Name: "guest", Leaves: p.Guest})
			}
			if whose != "" {
				if list = only(list, whose); list == nil {
					return cli.Misuse(cmd, fmt.Errorf("--of %q: it is one of host, kvm and, with a PATH, guest", whose))
				}
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), cpuid.Text(list, different))
			return err
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "print it as JSON")
	fl.BoolVar(&different, "diff", false, "only the leaves that are not the same everywhere")
	fl.StringVar(&whose, "of", "", "only those of `place`: host, kvm or guest")
	fl.IntVar(&cpu, "vcpu", 0, "`number` of the vCPU")
	return cmd
}

func cpuidPlaces(args []string, cpu int) (places, error) {
	if len(args) == 0 {
		supported, err := machine.SupportedCPUID()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return places{Host: cpuid.Host(nil)}, nil // without KVM there is the host
		}
		return hostCPUID(supported), err
	}
	return ask[places](args[0], control.Request{What: inspectCPUID, CPU: cpu})
}

// only is the place with a name.
func only(list []cpuid.Where, name string) []cpuid.Where {
	for _, w := range list {
		if strings.EqualFold(w.Name, name) {
			return []cpuid.Where{w}
		}
	}
	return nil
}
