package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"vmm/bench/netlab"
)

// mebibyte in bytes.
const mebibyte = 1 << 20

// machine is what the drivers of virtual machines have in common: what is booted,
// and with how much memory.
type machine struct {
	app    App
	memory int64
	kernel string
	initrd string
}

// find checks for what every machine needs.
func (m *machine) find(files ...File) error {
	if err := needKVM(); err != nil {
		return err
	}
	for _, f := range files {
		if err := needFile(f.Path, "the "+f.Role+" "+filepath.Base(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) files() []File {
	return []File{{"kernel", m.kernel}, {"initramfs", m.initrd}}
}

// mib is the memory for an instance in MiB.
func (m *machine) mib(s Spec) string {
	if s.Memory > 0 {
		return strconv.FormatInt(max(s.Memory/mebibyte, 1), 10)
	}
	return strconv.FormatInt(m.memory/mebibyte, 10)
}

// address is the word of the kernel's command line that gives it its network:
// Documentation/admin-guide/nfs/nfsroot.rst.
func address(e *netlab.Endpoint) string {
	return fmt.Sprintf("ip=%s::%s:255.255.0.0::eth0:off", e.Addr, netlab.Gateway)
}

// vmmPath finds the program vmm: beside this one, or in PATH.
func vmmPath() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), "vmm")); err == nil {
			return path, nil
		}
	}
	return lookFor("vmm", "install it beside vmm-tools")
}

// machineConfined says whose process a workload is in a guest.
func machineConfined(app App) string {
	if app.User.UID != 0 || app.User.GID != 0 {
		return "the image's user " + app.User.String() + " in the guest"
	}
	return "root of the guest"
}
