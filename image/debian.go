package image

import (
	"os"
	"path/filepath"
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
	for name, text := range baseFiles {
		path := filepath.Join(files, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	args := []string{
		"mmdebstrap", "--variant=minbase", "--include=" + strings.Join(append(basePackages, c.Packages...), ","),
		"--essential-hook=sync-in " + quote(files) + " /",
		// Whoever has the console has the machine.
		`--customize-hook=chroot "$1" passwd -d root`,
		`--customize-hook=chroot "$1" systemctl enable systemd-networkd`,
	}
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
