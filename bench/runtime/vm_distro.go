package runtime

import (
	"os"
	"path/filepath"
)

// vmDistro is a machine of vmm's with a distribution on its disk: Debian with its
// own kernel and systemd, and the application as a unit. The disk is shared and
// read-only; what the system writes stays in its memory.
type vmDistro struct {
	app    App
	memory int64
	disk   string
}

var _ Runtime = (*vmDistro)(nil)

func (v *vmDistro) Describe() Description {
	return Description{Name: "vm-distro", Kind: KindVM, Link: LinkTap, Memory: v.memory, Heavy: true, Confined: "a user of the guest"}
}

// boot finds the kernel and initial RAM disk beside the image.
func (v *vmDistro) boot() (kernel, initrd string) {
	real, err := filepath.EvalSymlinks(v.disk)
	if err != nil {
		real = v.disk
	}
	first := func(pattern string) string {
		if found, _ := filepath.Glob(filepath.Join(real+".boot", pattern)); len(found) > 0 {
			return found[0]
		}
		return filepath.Join(real+".boot", pattern)
	}
	return first("vmlinuz-*"), first("initrd.img-*")
}

func (v *vmDistro) Find() (string, error) {
	if v.app.Root != "" {
		return "", Missing{"a container image is no distribution", "give --app for this runtime"}
	}
	vmm, err := vmmPath()
	if err != nil {
		return "", err
	}
	if err := needKVM(); err != nil {
		return "", err
	}
	for _, f := range v.Files() {
		if err := needFile(f.Path, "the "+f.Role+" of Debian with "+v.app.Name); err != nil {
			return "", err
		}
	}
	return versionOf(vmm, "version"), nil
}

func (v *vmDistro) Files() []File {
	kernel, initrd := v.boot()
	return []File{{"kernel", kernel}, {"initramfs", initrd}, {"disk", v.disk}}
}

func (v *vmDistro) Start(s Spec) (*Instance, error) {
	vmm, err := vmmPath()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(v.disk); err != nil {
		return nil, err
	}
	kernel, initrd := v.boot()
	m := machine{memory: v.memory}
	return launch{
		spec: s, port: v.app.Port, inGroup: true, console: true, stop: terminate, env: caches(),
		args: []string{
			vmm, "boot", "--kernel", kernel, "--initrd", initrd, "--memory", m.mib(s) + "M",
			"--disk", "path=" + v.disk + ",ro",
			"--net", "tap=" + s.Endpoint.Tap + ",mac=" + s.Endpoint.MAC.String(),
			"--append", "quiet root=/dev/vda ro net.ifnames=0 " + address(s.Endpoint),
		},
	}.start()
}
