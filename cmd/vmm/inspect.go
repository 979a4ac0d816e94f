package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"vmm/boot"
	"vmm/cmd/internal/cli"
	"vmm/untrusted"
)

func newInspect() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Look into a running machine, a kernel image or an initrd",
		Example: `  vmm inspect kernel /boot/vmlinuz-6.1.0
  vmm inspect initrd initrd.img
  vmm inspect memory-map vm.sock
  vmm inspect page-tables vm.sock 0xffffffff81000000`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInspectKernel(), newInspectInitrd(), newInspectMemoryMap(), newInspectPageTables(),
		newInspectProcessor(), newInspectDevices(), newInspectQueues(), newInspectSandbox(), newInspectACPI(), newInspectCPUID(), newInspectSymbols())
	return cmd
}

func newInspectKernel() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "kernel FILE",
		Short: "Show the headers of a kernel image",
		Long: `Show the setup header of a bzImage with the meaning of its fields, how its
payload is compressed, its entry points, and the segments and notes of the ELF
file inside; or those of an ELF kernel.`,
		Example: `  vmm inspect kernel /boot/vmlinuz-6.1.0
  vmm inspect kernel --json vmlinux`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := boot.Open(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			info := img.Inspect()
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), info)
			}
			untrusted.Clean(info)
			_, err = info.WriteTo(cmd.OutOrStdout())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func newInspectInitrd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "initrd FILE",
		Short:   "List the files in an initrd",
		Long:    "List the files of the cpio archives that an initrd consists of, compressed or not.",
		Example: "  vmm inspect initrd /boot/initrd.img-6.1.0",
		Args:    cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("initrd: %w", err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return fmt.Errorf("initrd: %w", err)
			}
			archives, err := boot.ListInitrd(args[0], f, info.Size())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), archives)
			}
			untrusted.Clean(archives)
			return boot.WriteInitrd(cmd.OutOrStdout(), archives)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
