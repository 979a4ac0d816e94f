package doctor

import (
	"golang.org/x/sys/unix"

	"vmm/kvm"
)

// Run examines the host. It takes a few tens of milliseconds and leaves
// nothing behind.
func Run() *Report {
	r := &Report{Host: host()}
	system, err := kvm.Open()
	if err != nil {
		r.Problem, r.Fix = err.Error(), Fix(err)
		return r
	}
	defer system.Close()
	r.APIVersion = system.APIVersion()
	for _, c := range capabilities {
		// A capability that cannot be asked for is one that is not there.
		value, _ := system.CheckExtension(c.cap)
		r.Capabilities = append(r.Capabilities, Capability{c.cap.String(), value, c.needed})
		if c.needed && value == 0 && r.Problem == "" {
			r.Problem = "its KVM lacks " + c.cap.String()
			r.Fix = "use a newer kernel"
		}
	}
	r.Limits.MaxVCPUs, _ = system.MaxVCPUs()
	r.Limits.RecommendedVCPUs, _ = system.CheckExtension(kvm.CapRecommendedVCPUs)
	r.Limits.MemorySlots, _ = system.CheckExtension(kvm.CapMemorySlots)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		r.Limits.MemoryBytes = info.Totalram * uint64(info.Unit)
	}
	if r.Problem != "" {
		return r
	}
	if err := r.measure(system); err != nil {
		r.Problem = "a guest of a few instructions does not run: " + err.Error()
		r.Fix = "look at the host kernel's log (dmesg)"
		return r
	}
	r.OK = true
	r.judge()
	return r
}

// interpreted is how much slower than user mode kernel mode is where KVM
// interprets it: a hundred times and more. On hardware they are the same, and
// the slack is for noise.
const interpreted = 8

// judge draws the conclusion from what was measured.
func (r *Report) judge() {
	r.KernelModeNative = r.Speed.KernelMIPS*interpreted > r.Speed.UserMIPS && r.Speed.KernelMIPS > 20
	if !r.KernelModeNative {
		r.Problem = "it interprets a guest's kernel in software, which makes Linux too slow to boot; small guests work"
		r.Fix = "use a host with VT-x or AMD-V (in the cloud: bare metal, or nested virtualization switched on), or the lab (make lab CMD='...')"
	}
}
