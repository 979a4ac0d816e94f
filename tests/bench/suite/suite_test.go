// Package suite checks what a run of the whole of 'vmm bench' leaves: see run.
package suite

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmm/bench"
	"vmm/bench/report"
	"vmm/bench/result"
)

// load reads the run that is to be checked.
func load(t *testing.T) (dir string, run *result.Run) {
	t.Helper()
	dir = os.Getenv("VMM_BENCH_RESULTS")
	if dir == "" {
		t.Fatal("VMM_BENCH_RESULTS is not set; run it with 'make test-bench'")
	}
	run, err := result.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, run
}

// found are the runtimes that have to be there, and to start: all that 'make bench'
// builds or installs.
var found = []string{"process", "runc", "crun", "unikernel-container", "unikernel", "vm", "vm-shared", "vm-distro", "qemu-microvm"}

func TestEveryRuntimeStarts(t *testing.T) {
	_, run := load(t)
	if !run.Complete {
		t.Error("the run is not complete")
	}
	for _, name := range found {
		i := slices.IndexFunc(run.Subjects, func(s result.Subject) bool { return s.Runtime == name })
		if i < 0 {
			t.Errorf("%s: not a row", name)
			continue
		}
		s := run.Subjects[i]
		if s.Missing != "" {
			t.Errorf("%s: missing: %s", name, s.Missing)
		}
		for _, metric := range []string{"http", "stop", "teardown", "network"} {
			if len(run.Values("start", s, metric, 1)) == 0 {
				t.Errorf("%s: no start with %s", name, metric)
			}
		}
	}
}

// Every suite has figures of a process, a container, a unikernel and a machine.
func TestEverySuiteMeasures(t *testing.T) {
	_, run := load(t)
	metrics := map[string][]string{
		"start": {"http", "init", "read"}, "memory": {"minimum"}, "rest": {"requests", "latency_p99"}, "sort": {"sort"},
		"density": {"density_sum", "http_beside"}, "isolation": {"capabilities", "syscalls_open"},
	}
	for _, suite := range bench.Suites {
		for _, name := range []string{"process", "crun", "unikernel", "vm"} {
			for _, metric := range metrics[suite] {
				s := result.Subject{Runtime: name, App: "rest-c"}
				if len(run.Values(suite, s, metric, -1)) == 0 {
					t.Errorf("%s: %s: no %s", suite, name, metric)
				}
			}
		}
	}
}

// What is not there was left out, and says so; nothing else went wrong.
func TestFailuresAreLimits(t *testing.T) {
	_, run := load(t)
	for _, f := range run.Failures {
		switch {
		case strings.Contains(f.Message, "--limit"), strings.Contains(f.Message, "not tried: a rate"):
		default:
			t.Errorf("%s: %s", f.Trial, f.Message)
		}
	}
}

func TestReport(t *testing.T) {
	dir, run := load(t)
	html, err := os.ReadFile(filepath.Join(dir, report.HTMLFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(slices.Clone(found), "creation", "ecdf", "phases", "parallel", "beside", "memory", "minimum", "images", "density", "requests", "latency", "sort", "calls", "rebuild") {
		if !strings.Contains(string(html), want) {
			t.Errorf("the report has no %s", want)
		}
	}
	for _, c := range report.Judge(run) {
		if c.Because == "" {
			t.Errorf("%s: %s, without a reason", c.ID, c.Verdict)
		}
	}
	// A tiny machine boots faster than one with a kernel, and is smaller.
	for _, c := range report.Judge(run) {
		if (c.ID == "U1" || c.ID == "U5") && c.Verdict != report.Supported {
			t.Errorf("%s is %s: %s", c.ID, c.Verdict, c.Because)
		}
	}
}
