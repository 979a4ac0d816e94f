package main

import (
	"os"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/netdev"
	"vmm/netdev/usernet"
)

// newNet is what netdev.NewUser starts.
func newNet() *cobra.Command {
	return &cobra.Command{
		Use:    netdev.UserCommand,
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			ready := os.NewFile(netdev.UserReadyFD, "ready")
			config, err := netdev.ParseUser(args)
			if err != nil {
				return err
			}
			network, err := usernet.New(netdev.UserWireFD, config)
			if err != nil {
				_, _ = ready.WriteString(err.Error()) // the one who waits says it
				return cli.ExitStatus(cli.Failed)
			}
			if _, err := ready.WriteString(netdev.UserReady); err != nil {
				return err
			}
			ready.Close()
			network.Serve()
			return nil
		},
	}
}
