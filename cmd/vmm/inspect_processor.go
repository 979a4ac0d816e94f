package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/machine"
)

func newInspectProcessor() *cobra.Command {
	var asJSON bool
	var cpu int
	cmd := &cobra.Command{
		Use:   "processor PATH",
		Short: "Show a vCPU's registers and what it executes next",
		Long: `Show what a vCPU of the machine that was started with --control PATH is doing: its
registers, with the names of the flags that are set, its segments, and the
instructions from the next one on. The machine is paused while they are read; one
that was paused before (vmm ctl PATH pause) stays so, and can be stepped.`,
		Example: `  vmm inspect processor vm.sock
  vmm ctl vm.sock pause && vmm ctl vm.sock step 0 && vmm inspect processor vm.sock`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.Request{What: inspectProcessor, CPU: cpu}
			return show(cmd.OutOrStdout(), args[0], r, asJSON, processor.text)
		},
	}
	cmd.Flags().IntVar(&cpu, "vcpu", 0, "`number` of the vCPU")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (p processor) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d-bit code, privilege level %d, %s\n", p.State, p.Bits, p.Privilege, p.Paging)
	for _, r := range p.Registers {
		line := fmt.Sprintf("  %-7s %0*x  %s", r.Name, r.Bits/4, uint64(r.Value), r.Flags)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString("segments\n")
	for _, s := range p.Segments {
		line := fmt.Sprintf("  %-7s %04x  base %016x  limit %08x  %s", s.Name, uint64(s.Selector), uint64(s.Base), uint64(s.Limit), s.Meaning)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString("next\n")
	if len(p.Code) == 0 {
		fmt.Fprintf(&b, "  %016x  not mapped\n", uint64(p.Next))
	}
	symbol := ""
	for _, i := range p.Code {
		if name, _, _ := strings.Cut(i.Symbol, "+"); name != symbol {
			symbol = name
			fmt.Fprintf(&b, "  %s:\n", i.Symbol)
		}
		fmt.Fprintf(&b, "  %016x  %-24s %s\n", uint64(i.Address), i.Bytes, i.Text)
	}
	return b.String()
}

func newInspectDevices() *cobra.Command {
	var asJSON bool
	var cpu int
	cmd := &cobra.Command{
		Use:   "devices PATH",
		Short: "Show device registers of a running machine",
		Long: `Show the registers of the devices of the machine that was started with --control
PATH, by name and with what they mean: of those that can be looked at without an
effect, and of KVM's interrupt controllers and timer.`,
		Example: "  vmm inspect devices vm.sock",
		Args:    cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.Request{What: inspectDevices, CPU: cpu}
			return show(cmd.OutOrStdout(), args[0], r, asJSON, devicesText)
		},
	}
	cmd.Flags().IntVar(&cpu, "vcpu", 0, "`number` of the vCPU whose local APIC it is")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func devicesText(all []machine.Shown) string {
	var b strings.Builder
	for _, d := range all {
		fmt.Fprintf(&b, "%s at %s\n", d.Name, d.Where)
		for _, r := range d.Registers {
			line := fmt.Sprintf("  %04x  %-24s %0*x  %s", uint64(r.Offset), r.Name, 2*r.Bytes, uint64(r.Value), r.Meaning)
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}
