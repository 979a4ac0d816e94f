package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The kernels made for virtual machines are as small as they are to be.
func TestKernelSize(t *testing.T) {
	tests := []struct {
		kernel string
		limit  int64
	}{
		{"VMM_GUEST_TINY", 3 << 20},
		{"VMM_GUEST_FULL", 6 << 20},
	}
	for _, tt := range tests {
		info, err := os.Stat(filepath.Join(env(t, tt.kernel), "vmlinuz"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", tt.kernel, info.Size())
		if info.Size() > tt.limit {
			t.Errorf("%s: %d bytes; want at most %d", tt.kernel, info.Size(), tt.limit)
		}
	}
}

// The tiny kernel starts by every protocol, and with the smallest initramfs says
// so at port 0x80 and switches off.
func TestTinyKernel(t *testing.T) {
	dir, initrd := env(t, "VMM_GUEST_TINY"), env(t, "VMM_INITRD_TINY")
	tests := []struct {
		name, kernel string
		flags        []string
	}{
		{"unpacked by vmm", "vmlinuz", []string{"--boot-protocol", "direct"}},
		{"unpacked by itself", "vmlinuz", []string{"--boot-protocol", "linux64"}},
		{"by PVH", "vmlinux", []string{"--boot-protocol", "pvh"}},
		{"2 CPUs", "vmlinuz", []string{"--cpus", "2"}},
		{"virtio console", "vmlinuz", []string{"--console", "virtio"}},
		{"without ACPI", "vmlinuz", []string{"--append", "acpi=off -- reset"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, 0, nil, append([]string{"--kernel", filepath.Join(dir, tt.kernel), "--initrd", initrd,
				"-v", "--memory", "128M", "--timeout", "60s"}, tt.flags...)...)
			if want := `msg="boot marker" code=65`; !strings.Contains(r.err, want) {
				t.Errorf("vmm's log lacks %s:\n%s", want, r.err)
			}
			for _, bad := range []string{"ACPI Error", "cut here", "BUG:", "Call Trace", "Firmware Bug"} {
				if strings.Contains(r.out, bad) {
					t.Errorf("the kernel's log has %q:\n%s", bad, tail(r.out))
				}
			}
		})
	}
}

// An application as init has arguments, a network, disks and random numbers, and
// the machine ends with it.
func TestApplication(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{"pci", "mmio"} {
		t.Run(transport, func(t *testing.T) {
			r := run(t, 0, nil, "--kernel", env(t, "VMM_GUEST_TINY")+"/vmlinuz", "--initrd", env(t, "VMM_INITRD_APP"),
				"--memory", "128M", "--timeout", "60s", "--transport", transport, "--net", "user", "--disk", "path="+disk,
				"--append", "quiet ip=dhcp -- 7 two")
			console := strings.ReplaceAll(r.out, "\r", "")
			for _, want := range []string{
				`arguments: ["7" "two"]`,
				"/proc/mounts: devtmpfs /dev devtmpfs",
				"/proc/partitions: 254 0 1024 vda",
				"/etc/resolv.conf: nameserver ",
				"lo: up [127.0.0.1/8]",
				"eth0: up [",
				"hwrng: <nil>",
				"init: /app ended with status 7",
			} {
				if !strings.Contains(console, want) {
					t.Errorf("the console lacks %q:\n%s", want, tail(console))
				}
			}
			if strings.Contains(console, "does not run") {
				t.Errorf("init complains:\n%s", tail(console))
			}
		})
	}
}

// The full kernel has what u-root's shell needs, without a module.
func TestFullKernel(t *testing.T) {
	for _, protocol := range []string{"direct", "linux64"} {
		t.Run(protocol, func(t *testing.T) {
			r := run(t, 0, nil, guest(env(t, "VMM_GUEST_FULL")+"/vmlinuz", env(t, "VMM_INITRD_PLAIN"), "info",
				"--cpus", "2", "--boot-protocol", protocol)...)
			if v := line(r.out, "kernel"); !strings.HasPrefix(v, "6.12.") {
				t.Errorf("kernel %q; want 6.12", v)
			}
			if n := line(r.out, "cpus"); n != "2" {
				t.Errorf("%s CPUs; want 2", n)
			}
		})
	}
}
