package report

import (
	"fmt"
	"slices"
	"strings"

	"vmm/bench/result"
	"vmm/bench/stats"
)

// Verdict is what a run says of a claim.
type Verdict string

// The verdicts.
const (
	Supported    Verdict = "supported"
	Contradicted Verdict = "contradicted"
	Mixed        Verdict = "mixed"
	Unmeasured   Verdict = "not measured"
)

// Claim is one of the lecture's, in our words: docs/claims.md has its source.
type Claim struct {
	ID     string
	Text   string
	Figure string // the figure that it is about
	judge  func(*result.Run) (Verdict, string)
}

// Judged is a claim with what a run says of it.
type Judged struct {
	Claim
	Verdict Verdict
	Because string
}

// Claims are those of the lecture.
var Claims = []Claim{
	{"V1", "A VM carries the application and a full-blown operating system (e.g. Debian, Red Hat).", "images", func(r *result.Run) (Verdict, string) {
		verdict, text := ratio(r, "vm-distro", "vm", "the image of %s takes %s; but that of %s, with a kernel for one application, %s", imageOf, sizeOf)
		if verdict == Supported {
			verdict = Mixed // it may, and it need not
		}
		return verdict, text
	}},
	{"V2", "Its operating system has to boot, so applications start slowly.", "phases", func(r *result.Run) (Verdict, string) {
		s, ok := subject(r, "vm")
		if !ok {
			return Unmeasured, "no virtual machine was measured"
		}
		http, guest, init := startMedian(r, s, "http"), startMedian(r, s, "guest"), startMedian(r, s, "init")
		if !(init > guest && guest > 0) {
			return Unmeasured, "the phases of its start were not seen"
		}
		part := (init - guest) / http
		text := fmt.Sprintf("of the %s that a machine with a kernel for one application takes, the kernel's boot is %s, %.0f%%", seconds(http, 1), seconds(init-guest, 1), 100*part)
		if d, ok := subject(r, "vm-distro"); ok && startMedian(r, d, "http") > 0 {
			text += fmt.Sprintf("; a full distribution takes %s", seconds(startMedian(r, d, "http"), 1))
		}
		if part > 0.5 {
			return Supported, text
		}
		return Mixed, text
	}},
	{"V3", "Resources are used inefficiently: the kernel is replicated in each VM.", "memory", func(r *result.Run) (Verdict, string) {
		verdict, text := ratio(r, "vm", "process", "one more instance of %s takes %s, of %s %s", medianOf("memory", "pss"), sizeOf)
		pss := medianOf("memory", "pss")
		v, _ := subject(r, "vm")
		if s, ok := subject(r, "vm-shared"); ok && pss(r, s) > 0 && pss(r, s) < pss(r, v) {
			return Mixed, text + fmt.Sprintf("; but of %s, whose kernel's pages are shared, %s", label(s), size(pss(r, s), 1))
		}
		return verdict, text
	}},
	{"C1", "Containers package an application with its run-time environment and share one kernel.", "calls", func(r *result.Run) (Verdict, string) {
		s, ok := subject(r, "runc", "crun")
		kernel := r.Fact(s, "kernel")
		if !ok || kernel == "" {
			return Unmeasured, "the suite isolation was not run for a container"
		}
		if strings.HasPrefix(kernel, "the host's") {
			return Supported, "a container runs on " + kernel
		}
		return Contradicted, "a container runs on " + kernel
	}},
	{"C2", "They run as processes with isolated file system, network, CPU and memory.", "calls", func(r *result.Run) (Verdict, string) {
		s, ok := subject(r, "runc", "crun")
		list := strings.Fields(r.Fact(s, "namespaces"))
		if !ok || len(list) == 0 {
			return Unmeasured, "the suite isolation was not run for a container"
		}
		text := s.Runtime + " gives it namespaces of its own for " + strings.Join(list, ", ")
		for _, needed := range []string{"mnt", "net", "pid", "cgroup"} {
			if !slices.Contains(list, needed) {
				return Contradicted, text + ", and none for " + needed
			}
		}
		return Supported, text
	}},
	{"C3", "They are hosted by a container engine.", "creation", func(r *result.Run) (Verdict, string) {
		var measured []string
		for _, s := range subjects(r) {
			if s.Kind == "container" && startMedian(r, s, "http") > 0 && !slices.Contains(measured, s.Runtime) {
				measured = append(measured, s.Runtime)
			}
		}
		if len(measured) == 0 {
			return Unmeasured, "no container was measured"
		}
		if slices.Contains(measured, "docker") {
			return Mixed, "they ran under a daemon (docker), and as well without any: " + strings.Join(measured, ", ")
		}
		return Mixed, "a program that sets up a process and ends was enough: " + strings.Join(measured, ", ")
	}},
	{"C4", "Smaller memory footprint: no kernel inside.", "memory", func(r *result.Run) (Verdict, string) {
		return ratio(r, "vm", "crun", "one more instance of %s takes %s, of %s %s", medianOf("memory", "pss"), sizeOf)
	}},
	{"C5", "Faster start: the kernel need not boot.", "creation", func(r *result.Run) (Verdict, string) {
		return ratio(r, "vm", "crun", "%s answers after %s, %s after %s", startOf, secondsOf)
	}},
	{"C6", "They work only where the given kernel and libraries are.", "calls", func(r *result.Run) (Verdict, string) {
		c, okC := subject(r, "crun", "runc")
		v, okV := subject(r, "vm-distro", "vm")
		inC, inV := r.Fact(c, "kernel"), r.Fact(v, "kernel")
		if !okC || !okV || inC == "" || inV == "" {
			return Unmeasured, "the suite isolation was not run for both"
		}
		_, hosts, _ := strings.Cut(inC, "Linux ")
		_, own, _ := strings.Cut(inV, "Linux ")
		text := fmt.Sprintf("the container has %s; the machine has %s, whatever the host has", inC, inV)
		if hosts != own {
			return Supported, text
		}
		return Mixed, text + ", and they happen to be the same"
	}},
	{"C7", "Less secure than a VM; isolation against performance is a trade-off.", "calls", func(r *result.Run) (Verdict, string) {
		c, okC := subject(r, "crun", "runc")
		v, okV := subject(r, "vm")
		openC, openV := r.Values("isolation", c, "syscalls_open", -1), r.Values("isolation", v, "syscalls_open", -1)
		if !okC || !okV || len(openC) == 0 || len(openV) == 0 {
			return Unmeasured, "the suite isolation was not run for both"
		}
		text := fmt.Sprintf("a container's program may make %.0f system calls of the host, a guest %.0f", openC[0], openV[0])
		reqC, reqV := medianOf("rest", "requests")(r, c), medianOf("rest", "requests")(r, v)
		if reqC > 0 && reqV > 0 {
			text += fmt.Sprintf("; they answer %.0f and %.0f requests a second", reqC, reqV)
		}
		if openV[0] >= openC[0] {
			return Contradicted, text
		}
		if reqC > 0 && reqV > reqC {
			return Mixed, text
		}
		return Supported, text
	}},
	{"U1", "A unikernel is the application plus a tiny run time: not the whole OS of a VM, not the whole libraries of a container.", "images", func(r *result.Run) (Verdict, string) {
		return ratio(r, "vm", "unikernel", "what %s is started from takes %s, %s %s", imageOf, sizeOf)
	}},
	{"U2", "Only the functions the application needs, statically bound.", "images", func(r *result.Run) (Verdict, string) {
		s, ok := subject(r, "unikernel")
		if !ok || imageOf(r, s) == 0 {
			return Unmeasured, "no unikernel was measured"
		}
		return Supported, fmt.Sprintf("one ELF file of %s holds application, TCP/IP and drivers; the linker left out each function that nobody calls", size(imageOf(r, s), 1))
	}},
	{"U3", "It can run as a tiny VM or a tiny container.", "creation", func(r *result.Run) (Verdict, string) {
		u, okU := subject(r, "unikernel")
		c, okC := subject(r, "unikernel-container")
		if !okU || !okC || startOf(r, u) == 0 || startOf(r, c) == 0 {
			return Unmeasured, "not both were measured"
		}
		return Supported, fmt.Sprintf("the same application answers after %s as a unikernel in a machine, and after %s alone in a container", seconds(startOf(r, u), 1), seconds(startOf(r, c), 1))
	}},
	{"U4", "Smaller footprint.", "memory", func(r *result.Run) (Verdict, string) {
		return ratio(r, "vm", "unikernel", "one more instance of %s takes %s, of %s %s", medianOf("memory", "pss"), sizeOf)
	}},
	{"U5", "Boots faster.", "creation", func(r *result.Run) (Verdict, string) {
		verdict, text := ratio(r, "vm", "unikernel", "%s answers after %s, %s after %s", startOf, secondsOf)
		// Most of a tiny machine's start is its monitor's.
		if inside, of := ratio(r, "vm", "unikernel", "of that, from the guest's first instruction on, %s takes %s, %s %s", insideOf, secondsOf); inside != Unmeasured {
			text += "; " + of
		}
		return verdict, text
	}},
	{"U6", "Less flexible: adding or removing a function means recompiling.", "rebuild", func(r *result.Run) (Verdict, string) {
		s, ok := subject(r, "unikernel")
		if v := r.Values("start", s, "rebuild", -1); ok && len(v) > 0 {
			text := fmt.Sprintf("it is compiled and linked anew: %s from a changed source to the first response", seconds(stats.Quantile(v, 0.5), len(v)))
			if c, ok := subject(r, "crun", "runc"); ok && startOf(r, c) > 0 {
				text += fmt.Sprintf("; a container takes another program as a file: %s answers after %s", label(c), seconds(startOf(r, c), 1))
			}
			return Supported, text
		}
		return Unmeasured, "no unikernel was built anew"
	}},
}

// Judge says what a run says of each claim.
func Judge(r *result.Run) []Judged {
	var all []Judged
	for _, c := range Claims {
		verdict, because := c.judge(r)
		all = append(all, Judged{c, verdict, because})
	}
	return all
}

// value is a figure of a subject; 0: not measured.
type value func(*result.Run, result.Subject) float64

func medianOf(suite, metric string) value {
	return func(r *result.Run, s result.Subject) float64 {
		v := r.Values(suite, s, metric, -1)
		if len(v) == 0 {
			return 0
		}
		return stats.Quantile(v, 0.5)
	}
}

func startMedian(r *result.Run, s result.Subject, metric string) float64 {
	v := r.Values("start", s, metric, 1)
	if len(v) == 0 {
		return 0
	}
	return stats.Quantile(v, 0.5)
}

func startOf(r *result.Run, s result.Subject) float64 { return startMedian(r, s, "http") }

// insideOf is the part of a start that is the guest's.
func insideOf(r *result.Run, s result.Subject) float64 {
	if guest := startMedian(r, s, "guest"); guest > 0 {
		return startOf(r, s) - guest
	}
	return 0
}

func imageOf(_ *result.Run, s result.Subject) float64 { return float64(imageSize(s)) }
func sizeOf(v float64) string                         { return size(v, 1) }
func secondsOf(v float64) string                      { return seconds(v, 1) }

// subject is the first of the runtimes that was measured, with the application in
// C if with that, as all runtimes have it.
func subject(r *result.Run, names ...string) (result.Subject, bool) {
	for _, name := range names {
		for _, app := range []string{"rest-c", ""} {
			for _, s := range subjects(r) {
				if s.Runtime == name && (app == "" || s.App == app) {
					return s, true
				}
			}
		}
	}
	return result.Subject{}, false
}

// ratio judges by whether a's value is larger than b's, for the same application.
// The text has places for both names and values.
func ratio(r *result.Run, a, b, text string, of value, write func(float64) string) (Verdict, string) {
	for _, app := range []string{"rest-c", ""} {
		for _, sa := range subjects(r) {
			for _, sb := range subjects(r) {
				if sa.Runtime != a || sb.Runtime != b || sa.App != sb.App || app != "" && sa.App != app {
					continue
				}
				va, vb := of(r, sa), of(r, sb)
				if va == 0 || vb == 0 {
					continue
				}
				text := fmt.Sprintf(text, label(sa), write(va), label(sb), write(vb)) + fmt.Sprintf(": %s times", significant(va/vb))
				if va > vb {
					return Supported, text
				}
				return Contradicted, text
			}
		}
	}
	return Unmeasured, "not both of " + a + " and " + b + " were measured"
}
