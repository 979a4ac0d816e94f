package main

import (
	"fmt"
	"slices"
	"strings"
)

// job is something that is measured.
type job struct {
	name string
	what string  // for people
	unit string  // after division
	by   float64 // what the figure is divided by
	want float64 // how many times QEMU's figure; 0 for none
}

// jobs are those of init, in the order in which a guest does them.
var jobs = append(append(disk("cached", "cache=writeback"), disk("direct", "cache=none")...),
	job{"tap-send", "TCP over tap, guest sends", "Gbit/s", 1000, 1},
	job{"tap-receive", "TCP over tap, guest receives", "Gbit/s", 1000, 1},
	job{"user-send", "TCP in user mode, guest sends", "Gbit/s", 1000, 1.5},
	job{"user-receive", "TCP in user mode, guest receives", "Gbit/s", 1000, 1.5},
	job{"idle", "", "", 1, 0},
)

// idleJobs are the figures of the job "idle".
var idleJobs = []job{
	{"idle-wakeups", "idle for 10 s: wake-ups, vCPU excepted", "", 1, 0},
	{"idle-vcpu-wakeups", "idle for 10 s: wake-ups of the vCPU by the guest", "", 1, 0},
	{"idle-cpu", "idle for 10 s: processor time", "%", 1, 0},
}

func disk(image, cache string) []job {
	return []job{
		{"randread-1-" + image, "4 KiB random read, depth 1, " + cache, "kIOPS", 1000, 1},
		{"randread-32-" + image, "4 KiB random read, depth 32, " + cache, "kIOPS", 1000, 1},
		{"randwrite-1-" + image, "4 KiB random write, depth 1, " + cache, "kIOPS", 1000, 1},
		{"randwrite-32-" + image, "4 KiB random write, depth 32, " + cache, "kIOPS", 1000, 1},
		{"seqread-" + image, "1 MiB sequential read, " + cache, "MiB/s", 1024, 1},
		{"seqwrite-" + image, "1 MiB sequential write, " + cache, "MiB/s", 1024, 1},
	}
}

func allJobs() []string {
	var names []string
	for _, j := range jobs {
		names = append(names, j.name)
	}
	return names
}

// table is what was found, in Markdown: median, minimum and maximum of each
// monitor, and the ratio of the first one's median to that of each other.
func table(samples []sample, monitors []string) string {
	var b strings.Builder
	b.WriteString("| | ")
	for i, m := range monitors {
		fmt.Fprintf(&b, "%s | ", m)
		if i > 0 {
			b.WriteString("ratio | ")
		}
	}
	b.WriteString("wanted |\n|---|" + strings.Repeat("---|", 2*len(monitors)) + "\n")
	for _, j := range append(slices.Clone(jobs), idleJobs...) {
		first := values(samples, monitors[0], j)
		if len(first) == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s", j.what, spread(first, j.unit))
		for _, m := range monitors[1:] {
			other := values(samples, m, j)
			if len(other) == 0 {
				b.WriteString(" | - | -")
				continue
			}
			fmt.Fprintf(&b, " | %s | **%.2f**", spread(other, j.unit), median(first)/median(other))
		}
		if j.want > 0 {
			fmt.Fprintf(&b, " | %.1f |\n", j.want)
		} else {
			b.WriteString(" | |\n")
		}
	}
	return b.String()
}

// values are the figures of a job under a monitor, sorted.
func values(samples []sample, monitor string, j job) []float64 {
	var v []float64
	for _, s := range samples {
		if s.monitor == monitor && s.job == j.name {
			v = append(v, s.value/j.by)
		}
	}
	slices.Sort(v)
	return v
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func spread(sorted []float64, unit string) string {
	return strings.TrimSpace(fmt.Sprintf("%.3g (%.3g-%.3g) %s", median(sorted), sorted[0], sorted[len(sorted)-1], unit))
}
