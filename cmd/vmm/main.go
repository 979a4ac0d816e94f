// Command vmm is a virtual machine monitor on Linux KVM.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/cmd/internal/start"
	"vmm/doctor"
)

// version is set by the build: -ldflags "-X main.version=...".
var version = "devel"

func main() {
	start.Begin()
	if wantsTools(os.Args[1:]) {
		os.Exit(cli.Report(execTools()))
	}
	os.Exit(cli.Run(newRoot(), os.Args[1:], doctor.Fix))
}

// group is a group of commands, as the help shows them.
type group struct {
	title    string
	commands []*cobra.Command
}

const aboutVMM = "About vmm:"

func groups() []group {
	return []group{
		{"Start a virtual machine:", []*cobra.Command{newBoot(), newRestore(), newTrace()}},
		{"Run container images:", []*cobra.Command{inTools("run"), inTools("ps"), inTools("exec"), inTools("logs"), inTools("stop"), inTools("kill"), inTools("rm")}},
		{"Watch one:", []*cobra.Command{newTop(), inTools("explore"), newInspect(), newTimeline()}},
		{"Control one:", []*cobra.Command{newCtl(), newSnapshot()}},
		{"Measure and prepare:", []*cobra.Command{inTools("bench"), inTools("image"), inTools("kernel"), newDoctor()}},
		{aboutVMM, []*cobra.Command{newVersion()}},
	}
}

func newRoot() *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "vmm",
		Short: "Boot virtual machines on Linux KVM",
		Long: `vmm is a virtual machine monitor: it boots a Linux kernel and an initrd in a
virtual machine on Linux KVM, and shows how that works.`,
		Example: `  vmm boot --kernel /boot/vmlinuz --initrd initrd.cpio
  vmm doctor
  vmm inspect kernel /boot/vmlinuz`,
	}
	cli.Prepare(root)
	showVersion := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *showVersion {
			return printVersion(cmd)
		}
		return cmd.Help()
	}
	root.SetHelpCommandGroupID(aboutVMM)
	root.SetCompletionCommandGroupID(aboutVMM)
	root.AddCommand(newBroker())
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	return root
}
