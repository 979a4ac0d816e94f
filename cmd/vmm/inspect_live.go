package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/devices/virtio"
	"vmm/untrusted"
)

// show asks a running machine for something, and writes it as JSON or as text.
func show[T any](w io.Writer, path string, r control.Request, asJSON bool, text func(T) string) error {
	v, err := ask[T](path, r)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(w, v)
	}
	untrusted.Clean(&v)
	_, err = io.WriteString(w, text(v))
	return err
}

// maxValues is how many values an answer may have: far more than the largest, of all
// that page tables map.
const maxValues = 4_000_000

// ask asks a running machine for something to inspect.
func ask[T any](path string, r control.Request) (v T, err error) {
	r.Command = control.Inspect
	answer, err := control.Call(path, r)
	if err != nil {
		return v, err
	}
	if err := untrusted.Unmarshal(answer.Result, maxValues, &v); err != nil {
		return v, fmt.Errorf("%s: the answer is not one of this version of vmm: %w", path, err)
	}
	return v, nil
}

func newInspectMemoryMap() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "memory-map PATH",
		Short: "Show what lies where in a running machine",
		Long: `Show the guest-physical address space and the I/O ports of the machine that was
started with --control PATH: its RAM, with what the boot loader put there, its
devices, and what KVM answers for.`,
		Example: "  vmm inspect memory-map vm.sock\n  vmm inspect memory-map vm.sock --json",
		Args:    cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd.OutOrStdout(), args[0], control.Request{What: inspectMemoryMap}, asJSON, memoryMap.text)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (m memoryMap) text() string {
	var b strings.Builder
	b.WriteString("guest-physical memory\n")
	for _, a := range m.Memory {
		fmt.Fprintf(&b, "  %012x-%012x  %-8s %s\n", uint64(a.Start), uint64(a.Start)+a.Size-1, a.Kind, a.Name)
		for _, c := range a.Contents {
			fmt.Fprintf(&b, "    %012x-%012x  at the start: %s\n", uint64(c.Start), uint64(c.Start)+c.Size-1, c.Name)
		}
	}
	b.WriteString("ports\n")
	for _, a := range m.Ports {
		fmt.Fprintf(&b, "  %04x-%04x  %-8s %s\n", uint64(a.Start), uint64(a.Start)+a.Size-1, a.Kind, a.Name)
	}
	return b.String()
}

func newInspectPageTables() *cobra.Command {
	var asJSON bool
	var cpu int
	cmd := &cobra.Command{
		Use:   "page-tables PATH [ADDRESS]",
		Short: "Walk a vCPU's page tables",
		Long: `Show how a vCPU of the machine that was started with --control PATH gets from a
linear address to a physical one, entry by entry; or, without an address, all that
its page tables map, where neighbours with the same rights are one line.

Rights are: r(ead) w(rite) x (execute) u(ser) g(lobal) a(ccessed) d(irty). The
machine is paused while its tables are read.`,
		Example: `  vmm inspect page-tables vm.sock 0xffffffff81000000
  vmm inspect page-tables vm.sock --vcpu 1`,
		Args: cli.Usage(cli.Args(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.Request{What: inspectPageTables, CPU: cpu}
			if len(args) == 1 {
				return show(cmd.OutOrStdout(), args[0], r, asJSON, mappings.text)
			}
			addr, err := strconv.ParseUint(args[1], 0, 64)
			if err != nil {
				return cli.Misuse(cmd, fmt.Errorf("%q is no address; write a number such as 0xffffffff81000000", args[1]))
			}
			r.Address = &addr
			return show(cmd.OutOrStdout(), args[0], r, asJSON, pageWalk.text)
		},
	}
	cmd.Flags().IntVar(&cpu, "vcpu", 0, "`number` of the vCPU")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (w pageWalk) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, %s\n", w.Linear, w.Mode)
	for _, e := range w.Entries {
		rights := e.Rights
		if !e.Present {
			rights = "not present"
		}
		fmt.Fprintf(&b, "  %-15s entry %-4d at %-12v holds %#018x  %s\n", e.Table, e.Index, e.Address, uint64(e.Value), rights)
	}
	if w.Mapped {
		fmt.Fprintf(&b, "  physical %v, in a page of %s, %s\n", w.Physical, bytesText(w.PageSize), w.Rights)
	} else {
		b.WriteString("  not mapped\n")
	}
	return b.String()
}

func (m mappings) text() string {
	var b strings.Builder
	b.WriteString(m.Mode + "\n")
	for _, r := range m.Ranges {
		fmt.Fprintf(&b, "  %016x-%016x -> %012x  %8s in pages of %-4s %s\n",
			uint64(r.Linear), uint64(r.Linear)+r.Size-1, uint64(r.Physical), bytesText(r.Size), bytesText(r.PageSize), r.Rights)
	}
	if !m.Complete {
		b.WriteString("  and more: the list was cut off\n")
	}
	return b.String()
}

func newInspectQueues() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "queues PATH",
		Short: "Show the virtqueues of a running machine",
		Long: `Show the virtio devices of the machine that was started with --control PATH: how
far their drivers have got, and for each queue where its rings lie, how many chains
the driver has made available and the device has used (both modulo 65536), and how
many wait or are under way.`,
		Example: "  vmm inspect queues vm.sock",
		Args:    cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd.OutOrStdout(), args[0], control.Request{What: inspectQueues}, asJSON, queuesText)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func queuesText(devices []virtio.State) string {
	var b strings.Builder
	for _, d := range devices {
		fmt.Fprintf(&b, "%s: status %s, features %#x of %#x\n", d.Name, d.Status, uint64(d.Accepted), uint64(d.Offered))
		for _, q := range d.Queues {
			switch {
			case !q.Enabled:
				fmt.Fprintf(&b, "  queue %d: not set up, at most %d descriptors\n", q.Index, q.Size)
				continue
			case !q.Active:
				fmt.Fprintf(&b, "  queue %d: set up, not in use, %d descriptors\n", q.Index, q.Size)
			default:
				fmt.Fprintf(&b, "  queue %d: %d descriptors, %d available, %d used, %d to do; interrupt at %d, doorbell at %d\n",
					q.Index, q.Size, q.AvailIdx, q.UsedIdx, q.Depth, q.UsedEvent, q.AvailEvent)
			}
			fmt.Fprintf(&b, "    descriptors at %#x, available ring at %#x, used ring at %#x\n", q.Desc, q.Avail, q.Used)
		}
	}
	return b.String()
}

// bytesText is a size in the largest unit that divides it.
func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n != 0 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
