package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
)

func newKernel() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "kernel",
		Short:   "Get kernels for guests",
		Example: "  vmm boot --kernel $(vmm kernel fetch debian) --initrd initrd.cpio",
		Args:    cli.Usage(cli.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKernelFetch())
	return cmd
}

// kernels are the kernels by name: the script below guest-images that makes one, with
// its arguments, and prints the folder where the kernel lies.
var kernels = map[string][]string{
	"debian": {"debian-kernel", "linux-image-cloud-amd64"},
	"tiny":   {"kernel/build", "tiny"},
	"full":   {"kernel/build", "full"},
}

func newKernelFetch() *cobra.Command {
	return &cobra.Command{
		Use:   "fetch debian|tiny|full",
		Short: "Fetch or build a kernel, and print its path",
		Long: `Fetch or build a kernel for guests, and print the path of its image. It lies in
the cache ($XDG_CACHE_HOME/vmm/kernels), and is there at once the next time.

  debian   the cloud kernel of this host's Debian, from its package
  tiny     a kernel of 4 MB for one application, built from Debian's source:
           minutes
  full     a kernel for a distribution, with containers and shared folders, built
           likewise

It takes a Debian host with apt; what else a build takes is installed, by root.`,
		Example: `  vmm kernel fetch debian
  vmm boot --kernel $(vmm kernel fetch tiny) --initrd initrd.cpio`,
		Args: cli.Usage(func(cmd *cobra.Command, args []string) error {
			if err := cli.Args(1, 1)(cmd, args); err != nil {
				return err
			}
			if kernels[args[0]] == nil {
				return fmt.Errorf("%q is no kernel: choose debian, tiny or full", args[0])
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := guestImages()
			if err != nil {
				return err
			}
			script := kernels[args[0]]
			fetch := exec.CommandContext(cmd.Context(), filepath.Join(dir, script[0]), script[1:]...)
			fetch.Stderr = cli.Err()
			out, err := fetch.Output()
			if err != nil {
				return fmt.Errorf("the kernel was not fetched: %w", err)
			}
			path := filepath.Join(strings.TrimSpace(string(out)), "vmlinuz")
			if !isFile(path) {
				return fmt.Errorf("%s is missing", path)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
}

// guestImages is the folder with the scripts that make guests: of the source that
// this program was built in, or beside an installed program.
func guestImages() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	bin := filepath.Dir(self)
	for _, dir := range []string{filepath.Join(bin, "../guest-images"), filepath.Join(bin, "../share/vmm/guest-images"), "guest-images"} {
		if isFile(filepath.Join(dir, "debian-kernel")) {
			return filepath.Abs(dir)
		}
	}
	return "", errors.New("the scripts that fetch kernels (guest-images) are neither beside this program nor here: run it in vmm's source, or give vmm boot the kernel of your distribution")
}
