package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/image"
)

func newImage() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image",
		Short:   "Make disk images",
		Example: "  vmm image build --from debian --ssh-key ~/.ssh/id_ed25519.pub -o debian.img",
		Args:    cli.Usage(cli.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImageBuild())
	return cmd
}

func newImageBuild() *cobra.Command {
	var c image.Config
	var size cli.Size
	var verbose bool
	cmd := &cobra.Command{
		Use:   "build --from SOURCE [PATH] -o FILE",
		Short: "Make an image with an ext4 file system",
		Long: `Make a disk image with an ext4 file system, for --rootfs and --disk of vmm boot.
It needs no root, but the programs tar, mke2fs and fakeroot, and mmdebstrap for
Debian.

SOURCE is where the files come from:
  debian      packages of Debian 12: a system that boots, with a kernel
  dir         the folder PATH; what another than root makes is root's in the image
  tar         the archive PATH, compressed or not
  oci-layout  the container image in the folder PATH

A Debian system's console logs root in without a password, unless root is given
one. --ssh-key lets you in by ssh.

Kernels and initial RAM disks in the image's /boot are copied to FILE.boot/. What
is in an archive or container image leads to no file of this host: its links are
those of the image. At most four million files, 1 TiB and folders 256 deep are
taken. A folder with tens of thousands of files takes minutes, for mke2fs looks
through all of it for each, and one with more than about 100,000 is refused.`,
		Example: `  vmm image build --from debian --ssh-key ~/.ssh/id_ed25519.pub -o debian.img
  vmm boot --kernel debian.img.boot/vmlinuz-* --initrd debian.img.boot/initrd.img-* --rootfs debian.img --net user,hostfwd=tcp:127.0.0.1:2222-:22
  vmm image build --from debian --package sudo,curl --user alice --password secret --hostname lab -o lab.img
  vmm image build --from dir rootfs/ --size 2G -o rootfs.img
  docker export my-container | vmm image build --from tar /dev/stdin -o my.img
  skopeo copy docker://alpine oci:alpine && vmm image build --from oci-layout alpine -o alpine.img`,
		Args: cli.Usage(func(cmd *cobra.Command, args []string) error {
			switch {
			case c.From == "":
				return errors.New("--from is missing: debian, dir, tar or oci-layout")
			case c.From == image.Debian && len(args) != 0:
				return fmt.Errorf("%q: an image from debian takes no path", args[0])
			case c.From != image.Debian && len(args) != 1:
				return fmt.Errorf("an image from %s takes the path of one", c.From)
			}
			c.Size = uint64(size)
			return c.Validate()
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				c.Path = args[0]
			}
			c.Log = io.Discard
			if verbose {
				c.Log = cli.Err()
			} else if c.From == image.Debian { // it takes a minute
				c.Progress = func(step string) { fmt.Fprintf(cli.Err(), "vmm: %s: %s\n", c.Output, step) }
			}
			ctx, stop := cli.NotifyContext(context.Background())
			defer stop()
			return image.Build(ctx, c)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.Var(&cli.Choice[image.Source]{Value: &c.From, Values: []image.Source{image.Debian, image.Dir, image.Tar, image.OCI}}, "from", "where the files come from: debian, dir, tar or oci-layout")
	fl.StringVarP(&c.Output, "output", "o", "", "the image `file` to make")
	fl.Var(&size, "size", "`size` of the file system (default what is in it, and half as much again)")
	fl.StringSliceVar(&c.Packages, "package", nil, "Debian `package` to add; may be repeated")
	fl.StringVar(&c.Access.SSHKey, "ssh-key", "", "`file` with the public keys that root, or the user of --user, may log in with;\nadds the package openssh-server")
	fl.StringVar(&c.Access.User, "user", "", "`name` of a user to make, who may use sudo where that is installed")
	fl.StringVar(&c.Access.Password, "password", "", "`password` of that user, or of root, for the console; ssh takes it of users only")
	fl.StringVar(&c.Access.Hostname, "hostname", "", "`name` of the system (default vmm)")
	fl.StringVar(&c.Overlay, "overlay", "", "`folder` whose files are added, owned by root")
	fl.BoolVar(&c.Replace, "force", false, "replace the image if it exists")
	fl.BoolVarP(&verbose, "verbose", "v", false, "show what the programs say")
	for _, name := range []string{"from", "output"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag: a mistake above
		}
	}
	return cmd
}
