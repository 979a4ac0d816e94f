package main

import (
	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/doctor"
)

func newDoctor() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say whether this host can run virtual machines, and how well",
		Long: `Look at this host and at its KVM, and measure it with tiny guests: what an exit
from guest to vmm costs, and how fast a guest's kernel and its programs run.

Exit status: 0 when virtual machines can be run, 1 when not.`,
		Example: `  vmm doctor
  vmm doctor --json`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := doctor.Run()
			var err error
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), r)
			} else {
				_, err = r.WriteTo(cmd.OutOrStdout())
			}
			if err == nil && !r.OK {
				return cli.ExitStatus(cli.Failed)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}
