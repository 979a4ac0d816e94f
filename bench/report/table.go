// Package report turns the results of a run into a table for the terminal, a
// document for papers, and a page with figures.
package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"vmm/bench/result"
	"vmm/bench/stats"
)

// column is a column of the summary.
type column struct {
	title string
	cell  func(*result.Run, result.Subject) string
}

// columns are those of the summary, one line a subject.
var columns = []column{
	{"start p50", func(r *result.Run, s result.Subject) string {
		return seconds(r.Summary("start", s, "http", 1).Median, n(r, s))
	}},
	{"p99", func(r *result.Run, s result.Subject) string {
		return seconds(r.Summary("start", s, "http", 1).P99, n(r, s))
	}},
	{"n", func(r *result.Run, s result.Subject) string {
		return number(float64(n(r, s)), n(r, s))
	}},
	{"PSS", func(r *result.Run, s result.Subject) string {
		v := r.Values("memory", s, "pss", -1)
		return size(stats.Quantile(v, 0.5), len(v))
	}},
	{"smallest", func(r *result.Run, s result.Subject) string {
		v := r.Values("memory", s, "minimum", -1)
		return size(stats.Quantile(v, 0.5), len(v))
	}},
	{"image", func(_ *result.Run, s result.Subject) string {
		n := imageSize(s)
		return size(float64(n), int(min(n, 1)))
	}},
	{"req/s", func(r *result.Run, s result.Subject) string {
		v := r.Values("rest", s, "requests", -1)
		text := number(stats.Quantile(v, 0.5), len(v))
		if clientBound(r, s) {
			text += "+" // the client could not do more
		}
		return text
	}},
	{"latency p99", func(r *result.Run, s result.Subject) string {
		xs := r.Xs("rest", s, "latency_p99")
		if len(xs) == 0 {
			return "-"
		}
		v := r.Values("rest", s, "latency_p99", xs[0])
		return seconds(stats.Quantile(v, 0.5), len(v)) + fmt.Sprintf(" at %g/s", xs[0])
	}},
	{"density", func(r *result.Run, s result.Subject) string {
		v := r.Values("density", s, "density_limit", -1)
		text := number(stats.Quantile(v, 0.5), len(v))
		if strings.HasPrefix(r.Fact(s, "density"), "--") {
			text += "+" // the flag was the limit
		}
		return text
	}},
	{"syscalls made", func(r *result.Run, s result.Subject) string {
		v := r.Values("isolation", s, "syscalls", -1)
		return number(stats.Quantile(v, 0.5), len(v))
	}},
	{"boundary", func(_ *result.Run, s result.Subject) string { return Boundary(s.Kind) }},
}

// Boundary is what separates the workload from the host, by the kind of runtime.
func Boundary(kind string) string {
	switch kind {
	case "process":
		return "user"
	case "container":
		return "namespaces"
	}
	return "KVM"
}

func n(r *result.Run, s result.Subject) int { return r.Summary("start", s, "http", 1).N }

// clientBound tells whether the load generator, not the subject, limited a figure.
func clientBound(r *result.Run, s result.Subject) bool {
	cpu := r.Values("rest", s, "client_cpu", -1)
	return len(cpu) > 0 && stats.Quantile(cpu, 0.5) > 0.9
}

// imageSize is the size of all that an instance is started from.
func imageSize(s result.Subject) int64 {
	var sum int64
	for _, f := range s.Files {
		sum += f.OnDisk
	}
	return sum
}

// Table writes the summary for a terminal, with what is missing or failed below.
func Table(w io.Writer, r *result.Run) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	titles := []string{"runtime", "app"}
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	fmt.Fprintln(t, strings.Join(titles, "\t"))
	for _, s := range r.Subjects {
		if s.Missing != "" {
			continue
		}
		row := []string{s.Runtime, s.App}
		for _, c := range columns {
			row = append(row, c.cell(r, s))
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range Absent(r) {
		fmt.Fprintln(w, line)
	}
	if c := r.Environment.Caution(); c != "" {
		fmt.Fprintf(w, "\n%s\n", c)
	}
	if !r.Complete {
		fmt.Fprintln(w, "\nThe run was interrupted: not all of it is here.")
	}
	return nil
}

// Absent are lines about what is missing or failed, each once.
func Absent(r *result.Run) []string {
	var lines []string
	add := func(line string) {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	for _, s := range r.Subjects {
		if s.Missing != "" {
			add(fmt.Sprintf("%s (%s): not measured: %s", s.Runtime, s.App, s.Missing))
		}
	}
	type key struct{ runtime, app, suite, message string }
	times := map[key]int{}
	var order []key
	for _, f := range r.Failures {
		k := key{f.Runtime, f.App, f.Suite, f.Message}
		if times[k]++; times[k] == 1 {
			order = append(order, k)
		}
	}
	for _, k := range order {
		line := fmt.Sprintf("%s (%s): %s: %s", k.runtime, k.app, k.suite, k.message)
		if times[k] > 1 {
			line += fmt.Sprintf(" (%d times)", times[k])
		}
		add(line)
	}
	return lines
}

// Formatting: three significant digits, and a dash for what was not measured.

func seconds(v float64, n int) string {
	switch {
	case n == 0 || math.IsNaN(v):
		return "-"
	case v < 1e-3:
		return significant(v*1e6) + " µs"
	case v < 1:
		return significant(v*1e3) + " ms"
	}
	return significant(v) + " s"
}

func size(v float64, n int) string {
	switch {
	case n == 0 || math.IsNaN(v):
		return "-"
	case math.Abs(v) < 1<<20:
		return significant(v/(1<<10)) + " KiB"
	case math.Abs(v) < 10<<30:
		return significant(v/(1<<20)) + " MiB"
	}
	return significant(v/(1<<30)) + " GiB"
}

func number(v float64, n int) string {
	if n == 0 || math.IsNaN(v) {
		return "-"
	}
	return significant(v)
}

// significant writes a number with three significant digits, and no fewer digits
// than it has before the point.
func significant(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
