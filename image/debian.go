package image

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// release is the version of Debian: 12.
const release = "bookworm"

// basePackages are what a Debian system needs to be one that boots.
var basePackages = []string{
	"systemd-sysv", "systemd-resolved", "udev", "dbus", "libpam-systemd", "iproute2", "kmod", "e2fsprogs", "logsave",
	"linux-image-cloud-amd64", "initramfs-tools", "zstd",
}

// baseFiles are there before the packages are installed: a small initial RAM
// disk that finds the devices of vmm, and a network that configures itself.
var baseFiles = map[string]string{
	"etc/initramfs-tools/conf.d/vmm":          "MODULES=list\n",
	"etc/initramfs-tools/modules":             "virtio_pci\nvirtio_mmio\nvirtio_blk\nvirtio_console\next4\n",
	"etc/systemd/network/80-ethernet.network": "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n\n[Link]\nRequiredForOnline=no\n",
	"etc/fstab":    "/dev/vda / ext4 rw,discard 0 1\n",
	"etc/hostname": "vmm\n",
}

// debootstrap is the command that writes a Debian system as an archive.
func (c *Config) debootstrap(work string) ([]string, error) {
	files := filepath.Join(work, "files")
	all := maps.Clone(baseFiles)
	maps.Copy(all, c.Access.files())
	for name, text := range all {
		path := filepath.Join(files, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	packages := slices.Concat(basePackages, c.Access.packages(), c.Packages)
	args := []string{
		"mmdebstrap", "--variant=minbase", "--include=" + strings.Join(packages, ","),
		"--essential-hook=sync-in " + quote(files) + " /",
		`--customize-hook=chroot "$1" systemctl enable systemd-networkd`,
	}
	hooks, err := c.Access.hooks(work)
	if err != nil {
		return nil, err
	}
	args = append(args, hooks...)
	if c.Overlay != "" {
		overlay, err := filepath.Abs(c.Overlay)
		if err != nil {
			return nil, err
		}
		args = append(args, "--essential-hook=sync-in "+quote(overlay)+" /")
	}
	return append(args, "--skip=output/dev", release, "-"), nil
}

// quote makes a path one word of a hook's command.
func quote(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }

// stepNames are what mmdebstrap says, after "I: ", of the steps that take long, and
// what to call them.
var stepNames = map[string]string{
	"running apt-get update...":                          "fetching the list of packages",
	"downloading packages with apt...":                   "downloading the base system",
	"extracting archives...":                             "unpacking the base system",
	"installing essential packages...":                   "installing the base system",
	"installing remaining packages inside the chroot...": "installing packages",
	"creating tarball...":                                "copying files",
}

// steps passes on what mmdebstrap says that it is doing.
type steps struct {
	tell func(string)
	line []byte
}

// Write implements io.Writer.
func (s *steps) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != '\n' {
			s.line = append(s.line, c)
			continue
		}
		if name := stepNames[strings.TrimPrefix(string(s.line), "I: ")]; name != "" {
			s.tell(name)
		}
		s.line = s.line[:0]
	}
	return len(p), nil
}
