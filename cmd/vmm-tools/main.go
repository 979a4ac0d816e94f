// Command vmm-tools has the commands of vmm that are not needed to start a
// machine, and the network of --net user. People call it as vmm.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/cmd/internal/start"
)

func main() {
	start.Begin()
	root := &cobra.Command{Use: "vmm", Short: "What vmm has beside machines"}
	cli.Prepare(root)
	root.AddCommand(newBench(), newExplore(), newImage(), newKernel(), newNet(), newRun(), newPs(), newExec(), newLogs(), newStop(), newKill(), newRm())
	os.Exit(cli.Run(root, os.Args[1:], func(error) string { return "" }))
}
