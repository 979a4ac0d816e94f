package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/kvm"
)

// host looks at the machine.
func host() Host {
	h := Host{Module: "unknown"}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	cpu := cpuInfo()
	h.CPU = cpu["model name"]
	h.Nested = hasFlag(cpu, "hypervisor")
	if h.Nested {
		vendor := firstLine("/sys/class/dmi/id/sys_vendor")
		product := firstLine("/sys/class/dmi/id/product_name")
		h.Hypervisor = strings.TrimSpace(vendor + " " + product)
	}
	// The vendor's module, and not the common one, has the module kvm as a
	// dependency; built in, it shows by its parameters.
	if modules, err := filepath.Glob("/sys/module/kvm_*"); err == nil && len(modules) > 0 {
		h.Module = filepath.Base(modules[0])
	}
	return h
}

// cpuInfo is the first processor's part of /proc/cpuinfo.
func cpuInfo() map[string]string {
	info := map[string]string{}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return info
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan() && lines.Text() != ""; {
		name, value, _ := strings.Cut(lines.Text(), ":")
		info[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return info
}

func hasFlag(cpu map[string]string, flag string) bool {
	for f := range strings.FieldsSeq(cpu["flags"]) {
		if f == flag {
			return true
		}
	}
	return false
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

// Fix says how to mend an error of opening /dev/kvm: the command to run, where
// there is one. It is "" for any other error.
func Fix(err error) string {
	var path *os.PathError
	if !errors.As(err, &path) || path.Path != kvm.Device {
		return ""
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		switch cpu := cpuInfo(); {
		case hasFlag(cpu, "vmx"):
			return "run 'sudo modprobe kvm_intel'"
		case hasFlag(cpu, "svm"):
			return "run 'sudo modprobe kvm_amd'"
		case hasFlag(cpu, "hypervisor"):
			return "this host is a virtual machine: switch nested virtualization on in its hypervisor, or use the lab (make lab)"
		}
		return "switch virtualization (VT-x or AMD-V) on in the firmware's settings"
	case errors.Is(err, os.ErrPermission):
		return fixPermission()
	case errors.Is(err, syscall.EBUSY):
		return "another hypervisor uses the processor's virtualization: stop it"
	}
	return ""
}

// fixPermission is the command that lets this user open /dev/kvm: joining the
// group that the file is for, or a rule for this user alone.
func fixPermission() string {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	var st unix.Stat_t
	if unix.Stat(kvm.Device, &st) == nil && st.Gid != 0 && st.Mode&0o060 == 0o060 {
		if g, err := user.LookupGroupId(strconv.Itoa(int(st.Gid))); err == nil {
			return fmt.Sprintf("run 'sudo usermod -aG %s %s' and log in again", g.Name, name)
		}
	}
	return fmt.Sprintf("run 'sudo setfacl -m u:%s:rw %s'", name, kvm.Device)
}
