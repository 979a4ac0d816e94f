// Package environ describes the host that a benchmark runs on.
package environ

import (
	"bufio"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/bench/cgroup"
	"vmm/bench/result"
	"vmm/bench/usage"
)

// Collect looks at everything that figures may depend on. What cannot be read is
// left empty.
func Collect(tree *cgroup.Tree) result.Environment {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	memory, _ := usage.Total()
	cpu, flags, cpus := processor()
	e := result.Environment{
		CPU: cpu, CPUs: cpus, MemoryBytes: memory,
		Kernel:       unix.ByteSliceToString(uts.Release[:]) + " " + unix.ByteSliceToString(uts.Version[:]),
		Distribution: distribution(),
		Machine:      read("/sys/class/dmi/id/sys_vendor") + " " + read("/sys/class/dmi/id/product_name"),
		KVM:          kvm(),
		Mitigations:  map[string]string{},
		Governor:     read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
		Turbo:        turbo(),
		THP:          read("/sys/kernel/mm/transparent_hugepage/enabled"),
		KSM:          read("/sys/kernel/mm/ksm/run"),
		Clocksource:  read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		Load:         read("/proc/loadavg"),
		Versions:     map[string]string{"go": goruntime.Version()},
	}
	e.Cgroup = "version 2"
	if !tree.Memory {
		e.Cgroup += ", without its memory controller"
	}
	files, _ := filepath.Glob("/sys/devices/system/cpu/vulnerabilities/*")
	for _, f := range files {
		e.Mitigations[filepath.Base(f)] = read(f)
	}
	e.Host = kindOf(e, flags)
	return e
}

// kindOf tells what the host runs on. An emulator does not say that it is one:
// QEMU does, by its name as the machine's vendor, together with the absence of
// every hypervisor's signature that comes with hardware's help.
func kindOf(e result.Environment, flags string) result.Host {
	virtual := strings.Contains(flags, " hypervisor")
	switch {
	case virtual && strings.Contains(e.Machine, "QEMU") && !paravirtual():
		return result.Emulated
	case virtual:
		return result.Virtual
	}
	return result.BareMetal
}

// paravirtual tells whether the host's kernel has found a hypervisor that it
// works together with, as it does KVM, Xen and Hyper-V. TCG is none.
func paravirtual() bool {
	clock := read("/sys/devices/system/clocksource/clocksource0/available_clocksource")
	for _, name := range []string{"kvm-clock", "xen", "hyperv_clocksource"} {
		if strings.Contains(clock, name) {
			return true
		}
	}
	return false
}

// processor is what /proc/cpuinfo says. It tells of all processors, which the
// runtime of this process, pinned to some, does not.
func processor() (model, flags string, count int) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return goruntime.GOARCH, "", goruntime.NumCPU()
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(name) {
		case "processor":
			count++
		case "model name":
			model = strings.TrimSpace(value)
		case "flags":
			flags = value
		}
	}
	return model, flags, count
}

func kvm() string {
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		dir := "/sys/module/" + module
		if _, err := os.Stat(dir); err == nil {
			return module + ", nested " + read(dir+"/parameters/nested")
		}
	}
	if _, err := os.Stat("/dev/kvm"); err == nil {
		return "present"
	}
	return "none"
}

func turbo() string {
	if v := read("/sys/devices/system/cpu/intel_pstate/no_turbo"); v != "" {
		return map[string]string{"0": "on", "1": "off"}[v]
	}
	return map[string]string{"0": "off", "1": "on"}[read("/sys/devices/system/cpu/cpufreq/boost")]
}

func distribution() string {
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return ""
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
