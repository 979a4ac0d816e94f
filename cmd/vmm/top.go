package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/trace"
	"vmm/untrusted"
)

func newTop() *cobra.Command {
	var every time.Duration
	var rounds int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "top PATH",
		Short: "Show what a running machine is doing",
		Long: `Show, again and again, what the machine that was started with --control PATH is
doing: exits a second by reason and by device, how much of its time each vCPU is in
the guest, interrupts and requests of each device, and how many requests wait in
each queue.

"In the guest" is the time in KVM_RUN: it includes what KVM does by itself, and a
halted vCPU. Counting costs the machine a fraction of a microsecond an exit, and
ends ten seconds after the last look.`,
		Example: `  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --control vm.sock
  vmm top vm.sock
  vmm top vm.sock --every 5s --rounds 3 >counts.txt
  vmm top vm.sock --json --rounds 1`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if every < 10*time.Millisecond || every > countingFor/2 {
				return fmt.Errorf("--every %v: choose between 10ms and %v", every, countingFor/2)
			}
			return top(cmd.OutOrStdout(), args[0], every, rounds, asJSON)
		},
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "`time` between looks")
	cmd.Flags().IntVar(&rounds, "rounds", 0, "`number` of looks; 0 for no end")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the counts since the last look as JSON, a line a look")
	return cmd
}

func top(w io.Writer, path string, every time.Duration, rounds int, asJSON bool) error {
	interrupted := make(chan os.Signal, 1)
	cli.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	before, err := askCounters(path)
	if err != nil {
		return err
	}
	screen := term.IsTerminal(int(os.Stdout.Fd())) && !asJSON
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 0; rounds == 0 || n < rounds; n++ {
		select {
		case <-interrupted:
			return nil
		case <-ticker.C:
		}
		now, err := askCounters(path)
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil // the machine has ended
		}
		if err != nil {
			return err
		}
		passed := counters{now.Since(before.Totals), now.Queues}
		before = now
		if asJSON {
			if err := json.NewEncoder(w).Encode(passed); err != nil {
				return err
			}
			continue
		}
		text := topText(&passed)
		if screen {
			if _, err := os.Stdout.WriteString("\x1b[H\x1b[2J"); err != nil { // ECMA-48: cursor home, erase page
				return err
			}
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

func askCounters(path string) (counters, error) {
	c, err := ask[counters](path, control.Request{What: inspectCounters})
	untrusted.Clean(&c)
	if c.Devices == nil {
		c.Devices = map[string]trace.DeviceCount{}
	}
	return c, err
}

// topText is a page of rates.
func topText(c *counters) string {
	var b strings.Builder
	seconds := float64(c.Time) / 1e9
	rate := func(n uint64) string { return fmt.Sprintf("%.0f/s", float64(n)/seconds) }
	mean := func(n trace.Count) time.Duration {
		return (time.Duration(n.VMM) / time.Duration(max(n.Exits, 1))).Round(10 * time.Nanosecond)
	}
	fmt.Fprintf(&b, "%-24s %12s %8s %8s\n", "vCPU", "exits", "guest", "vmm")
	for i, cpu := range c.CPUs {
		fmt.Fprintf(&b, "%-24d %12s %7.1f%% %7.1f%%\n", i, rate(cpu.Exits), 100*float64(cpu.Guest)/float64(c.Time), 100*float64(cpu.VMM)/float64(c.Time))
	}
	section := func(title string, counts map[string]trace.Count) {
		fmt.Fprintf(&b, "\n%-24s %12s %17s\n", title, "exits", "vmm, each")
		for _, name := range byExits(counts) {
			shown := name
			if shown == "" {
				shown = "no device"
			}
			fmt.Fprintf(&b, "%-24s %12s %17v\n", shown, rate(counts[name].Exits), mean(counts[name]))
		}
	}
	section("exits by reason", c.Reasons)
	section("exits by device", c.Access)
	fmt.Fprintf(&b, "\n%-24s %12s %12s %12s  %s\n", "device", "interrupts", "doorbells", "requests", "waiting in its queues")
	depths := map[string]string{}
	for _, d := range c.Queues {
		for _, q := range d.Queues {
			depth := "-"
			if q.Active {
				depth = fmt.Sprint(q.Depth)
			}
			depths[d.Name] = strings.TrimSpace(depths[d.Name] + " " + depth)
		}
		if _, counted := c.Devices[d.Name]; !counted {
			c.Devices[d.Name] = trace.DeviceCount{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Devices)) {
		d := c.Devices[name]
		fmt.Fprintf(&b, "%-24s %12s %12s %12s  %s\n", name, rate(d.Interrupts), rate(d.Doorbells), rate(d.Requests), depths[name])
	}
	if c.Lost > 0 {
		fmt.Fprintf(&b, "\n%d records were lost: the true numbers are higher\n", c.Lost)
	}
	return b.String()
}

// byExits are the names with the most exits first.
func byExits(counts map[string]trace.Count) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b].Exits, counts[a].Exits), cmp.Compare(a, b))
	})
}
