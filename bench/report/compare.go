package report

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"vmm/bench/result"
	"vmm/bench/stats"
)

// Compare writes what changed between two runs: the medians of each metric that
// both have, and the probability that they differ as much by chance.
func Compare(w io.Writer, before, after *result.Run) error {
	for _, line := range differences(before, after) {
		fmt.Fprintln(w, line)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "suite\truntime\tapp\tmetric\tat\tbefore\tafter\tchange\tby chance\tn")
	for _, a := range before.Summaries {
		s := result.Subject{Runtime: a.Runtime, App: a.App}
		b := after.Summary(a.Suite, s, a.Metric, a.X)
		if b.N == 0 {
			continue
		}
		change := "-"
		if a.Median != 0 {
			change = fmt.Sprintf("%+.1f%%", 100*(b.Median/a.Median-1))
		}
		p := stats.RankSum(before.Values(a.Suite, s, a.Metric, a.X), after.Values(a.Suite, s, a.Metric, a.X))
		at := ""
		if result.Metrics[a.Metric].X != "" {
			at = fmt.Sprintf("%g", a.X)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\tp = %.2g\t%d, %d\n", a.Suite, a.Runtime, a.App, a.Metric, at,
			format(a.Median, a.Unit), format(b.Median, a.Unit), change, p, a.N, b.N)
	}
	return t.Flush()
}

// differences are sentences about what is not the same in two runs' surroundings.
func differences(a, b *result.Run) []string {
	var lines []string
	say := func(what, x, y string) {
		if x != y {
			lines = append(lines, fmt.Sprintf("%s: %q before, %q after", what, x, y))
		}
	}
	ea, eb := a.Environment, b.Environment
	say("processor", ea.CPU, eb.CPU)
	say("host", string(ea.Host), string(eb.Host))
	say("kernel", ea.Kernel, eb.Kernel)
	say("governor", ea.Governor, eb.Governor)
	say("huge pages", ea.THP, eb.THP)
	for _, s := range a.Subjects {
		i := slices.IndexFunc(b.Subjects, func(o result.Subject) bool { return o.Name() == s.Name() })
		if i < 0 {
			lines = append(lines, s.Name()+": only in the first run")
			continue
		}
		say(s.Name()+": version", s.Version, b.Subjects[i].Version)
	}
	return lines
}

// format writes a value in a unit.
func format(v float64, unit string) string {
	switch unit {
	case "s":
		return seconds(v, 1)
	case "B":
		return size(v, 1)
	}
	return number(v, 1)
}
