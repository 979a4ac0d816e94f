package timeline

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// barWidth is the width of the picture, in characters.
const barWidth = 36

// WriteText draws the timeline for a terminal: a line for each phase with the
// time it was reached and the time it lasted, and the slowest initcalls; n of
// them, or all if n is negative.
func (d Data) WriteText(w io.Writer, n int) (int64, error) {
	var b strings.Builder
	steps := byTime(d.Phases)
	if len(steps) == 0 {
		return 0, nil
	}
	column := func(ns int64) int {
		last := max(steps[len(steps)-1].NS, 1)
		return min(max(int(float64(ns)/float64(last)*barWidth), 0), barWidth)
	}
	fmt.Fprintf(&b, "%-24s %10s %10s\n", "phase", "at ms", "lasted ms")
	for i, p := range steps {
		lasted, length := "", 0
		from := column(p.NS)
		if i+1 < len(steps) {
			lasted = ms(steps[i+1].NS - p.NS)
			length = column(steps[i+1].NS) - from
		}
		bar := strings.Repeat(" ", from) + strings.Repeat("=", length) + "|"
		line := fmt.Sprintf("%-24s %10s %10s  %s", p.Name, ms(p.NS), lasted, bar)
		if p.Source == FromConsole && p.Name != Ready {
			line += " by the kernel's log"
		}
		fmt.Fprintln(&b, line)
	}
	d.writeInitcalls(&b, n)
	for _, m := range d.Markers {
		from := "kernel"
		if m.User {
			from = "user mode"
		}
		fmt.Fprintf(&b, "marker %#x on %s, from %s: %s ms\n", m.Value, m.Where, from, ms(m.NS))
	}
	fmt.Fprintf(&b, "the timeline itself: %s ms in %d stops of the guest, left out of the times above\n", ms(d.CostNS), d.Stops)
	if d.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", d.Note)
	}
	written, err := io.WriteString(w, b.String())
	return int64(written), err
}

func (d Data) writeInitcalls(b *strings.Builder, n int) {
	if len(d.Initcalls) == 0 {
		return
	}
	calls := slices.Clone(d.Initcalls)
	var sum int64
	for _, c := range calls {
		sum += c.TookNS
	}
	which := "in order"
	if n >= 0 && n < len(calls) {
		slices.SortStableFunc(calls, func(a, b Initcall) int { return cmp.Compare(b.TookNS, a.TookNS) })
		calls = calls[:n]
		which = "the slowest"
	}
	fmt.Fprintf(b, "%d initcalls, %s ms; %s:\n", len(d.Initcalls), ms(sum), which)
	for _, c := range calls {
		fmt.Fprintf(b, "  %-32s %10s %10s\n", c.Name, ms(c.NS), ms(c.TookNS))
	}
}

// ms writes nanoseconds as milliseconds.
func ms(ns int64) string { return fmt.Sprintf("%.3f", float64(ns)/1e6) }
