// Command vmm is a virtual machine monitor on Linux KVM.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/doctor"
)

// version is set by the build: -ldflags "-X main.version=...".
var version = "devel"

func main() {
	if wantsTools(os.Args[1:]) {
		os.Exit(cli.Report(execTools()))
	}
	os.Exit(cli.Run(newRoot(), os.Args[1:], doctor.Fix))
}

func newRoot() *cobra.Command {
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
	root.AddCommand(newBoot(), newCtl(), newDoctor(), newInspect(), newTimeline(), newTop(), newTrace(), newVersion())
	root.AddCommand(elsewhere()...)
	return root
}
