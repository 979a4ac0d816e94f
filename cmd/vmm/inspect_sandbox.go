package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/sandbox"
)

func newInspectSandbox() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sandbox PATH",
		Short: "Show what a running machine's vmm may do on its host",
		Long: `Show the sandbox around the vmm that was started with --control PATH: its layers,
the folders in which it may open or remove files, and the system calls that it may
make, with what their arguments may be. Any other call ends it.`,
		Example: "  vmm inspect sandbox vm.sock\n  vmm inspect sandbox vm.sock --json",
		Args:    cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd.OutOrStdout(), args[0], control.Request{What: inspectSandbox}, asJSON, sandboxText)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func sandboxText(c sandbox.Cage) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-28s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("--sandbox", "%s", c.Mode)
	for _, l := range c.Layers {
		state := "off"
		if l.On {
			state = "on"
		}
		if l.Note != "" {
			state += ": " + l.Note
		}
		line(l.Name, "%s", state)
	}
	if len(c.Layers) == 0 {
		return b.String()
	}
	list := func(name string, items []string) {
		if len(items) == 0 {
			items = []string{"none"}
		}
		line(name, "%s", strings.Join(items, ", "))
	}
	list("capabilities kept", c.Capabilities)
	list("folders", c.Folders)
	if len(c.Calls) > 0 {
		line("system calls", "%d", len(c.Calls))
	}
	for _, call := range c.Calls {
		line("  "+call.Name, "%s", call.Why[0])
		if call.Limits != "" {
			line("", "  only: %s", call.Limits)
		}
	}
	return b.String()
}
