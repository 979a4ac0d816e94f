package doctor

import (
	"golang.org/x/sys/unix"

	"vmm/kvm"
)

// Run examines the host. It takes a few tens of milliseconds and leaves
// nothing behind.
func Run() *Report {
	r := &Report{Host: host(), Sandbox: ownSandbox()}
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
	if r.KernelModeNative = r.Speed.native(); !r.KernelModeNative {
		r.Problem, r.Fix = "it "+problemInterpreted, fixInterpreted
	}
}

// What is wrong with a host that interprets, and what to do about it.
const (
	problemInterpreted = "interprets a guest's kernel in software, which makes Linux too slow to boot; small guests work"
	fixInterpreted     = "use a host with VT-x or AMD-V (in the cloud: bare metal, or nested virtualization switched on), or the lab (make lab CMD='...')"
)

// native reports whether a guest's kernel runs on the processor itself.
func (s Speed) native() bool { return s.KernelMIPS*interpreted > s.UserMIPS && s.KernelMIPS > 20 }

// interprets reports whether kernel mode is that much slower than user mode. A host
// that is slow in both, as an emulated one, does not interpret; and one measurement
// may have been interrupted.
func interprets(system *kvm.System) bool {
	const times = 3
	for range times {
		kernel, kerr := speed(system, 0)
		user, uerr := speed(system, 3)
		if kerr != nil || uerr != nil || kernel*interpreted > user {
			return false
		}
	}
	return true
}

// Interpreted measures, in a few milliseconds, whether this host's KVM interprets
// a guest's kernel, and says what that means and what to do; "" if it does not, or
// if that can't be found out.
func Interpreted() string {
	p := NewProber()
	defer p.Close()
	return p.Interpreted()
}

// Prober measures this host at a time when it can open no device any more.
type Prober struct{ system *kvm.System } // nil: there is no KVM

// NewProber opens what a Prober needs.
func NewProber() *Prober {
	system, err := kvm.Open()
	if err != nil {
		return &Prober{}
	}
	return &Prober{system}
}

// Close lets go of it.
func (p *Prober) Close() {
	if p.system != nil {
		p.system.Close()
	}
}

// Interpreted is the function of that name.
func (p *Prober) Interpreted() string {
	if p.system == nil {
		return ""
	}
	found := make(chan bool)
	go func() { found <- interprets(p.system) }() // on a thread that ends with it
	if !<-found {
		return ""
	}
	return "this host's KVM " + problemInterpreted + " (see 'vmm doctor'); " + fixInterpreted
}
