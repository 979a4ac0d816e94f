package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/netdev"
	"vmm/netdev/usernet"
	"vmm/sandbox"
)

// newNet is what netdev.NewUser starts.
func newNet() *cobra.Command {
	return &cobra.Command{
		Use:    netdev.UserCommand,
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			ready := os.NewFile(netdev.UserReadyFD, "ready")
			network, err := startNet(args)
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

// startNet makes the network, and puts it into a cage: it takes packets apart that a
// guest has made.
func startNet(args []string) (*usernet.Network, error) {
	config, err := netdev.ParseUser(args)
	if err != nil {
		return nil, err
	}
	network, err := usernet.New(netdev.UserWireFD, config)
	if err != nil || config.Sandbox == sandbox.Off || sandbox.Host().Threads != nil {
		return network, err
	}
	refused, err := sandbox.Refusals()
	if err != nil {
		return nil, err
	}
	go func() {
		fmt.Fprintf(cli.Err(), "vmm: --net user: %s\n", sandbox.Refusal(<-refused))
		os.Exit(cli.Failed)
	}()
	mode := config.Sandbox
	if mode == "" {
		mode = sandbox.Auto
	}
	_, err = sandbox.Enter(mode, sandbox.Needs{Groups: sandbox.Network, Reads: resolver()})
	return network, err
}

// resolver are the files of the host's name service, which Go's resolver reads anew
// when they change. Where they are links, into a folder of a resolver's own, it is the
// folder that counts: a new file takes the place of an old one there.
func resolver() []string {
	var all []string
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"} {
		file, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // the resolver does without
		}
		if dir := filepath.Dir(file); dir != "/etc" && dir != "/" {
			file = dir
		}
		all = append(all, file)
	}
	return all
}
