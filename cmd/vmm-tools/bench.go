package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"vmm/bench"
	"vmm/bench/report"
	"vmm/bench/result"
	"vmm/cmd/internal/cli"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure virtual machines against containers and unikernels",
		Long: `Measure what a virtual machine costs against a container, a unikernel and a
plain process: the same application in each, started and asked in random order.`,
		Example: `  vmm bench list
  vmm bench run -o results
  vmm bench compare before after`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	inside := &cobra.Command{
		Use: bench.InsideCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return bench.Inside() },
	}
	allowed := &cobra.Command{
		Use: bench.AllowedCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := bench.Allowed(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cli.Out(), n)
			return err
		},
	}
	cmd.AddCommand(newBenchRun(), newBenchList(), newBenchInstall(), newBenchReport(), newBenchCompare(), inside, allowed)
	return cmd
}

// assetsDir is where guest-images/bench puts what instances are started from.
func assetsDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "vmm", "bench")
}

func newBenchRun() *cobra.Command {
	o := bench.Defaults()
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure, and write a report",
		Long: `Measure the runtimes that are installed, and write a report. It takes root: what
it starts is in namespaces, cgroups and a network of the bench's own, and gone at
the end, however it ends. Ctrl-C ends it and keeps what was measured; --resume
goes on.

The suites:
  start      until the guest's first instruction, its first program, and the first
             response; alone and several at once; and the end
  memory     what one more instance takes; the smallest memory that serves
  rest       requests a second, and latency at fixed rates
  sort       bubble sort of arrays
  density    instance after instance
  isolation  system calls of the host, made and open; namespaces, capabilities`,
		Example: `  vmm bench run
  vmm bench run --suite start --runtimes process,crun,vm,unikernel -n 100
  vmm bench run --image my-image.tar --ready http://:8080/healthz -o my-results
  vmm bench run --resume -o my-results`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if o.Dir == "" {
				o.Dir = "bench-" + time.Now().Format("2006-01-02-150405")
			}
			ctx, stop := cli.NotifyContext(context.Background())
			defer stop()
			err := bench.Run(ctx, o)
			var ended bench.Ended
			if err != nil && !errors.As(err, &ended) {
				return err
			}
			if reportErr := writeReport(o.Dir); reportErr != nil && err == nil {
				return reportErr
			}
			if err != nil {
				return cli.ExitStatus(int(ended))
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringSliceVar(&o.Suites, "suite", o.Suites, "`suites` to run")
	fl.StringSliceVar(&o.Runtimes, "runtimes", o.Runtimes, "`runtimes` to measure; 'vmm bench list' shows those found")
	fl.StringSliceVar(&o.Apps, "app", nil, "built-in `applications`: rest-go, rest-c (default both)")
	fl.StringVar(&o.Image, "image", "", "container image to measure instead: the `path` of an OCI layout's folder or archive")
	fl.StringVar(&o.Ready, "ready", "", "`url` at which the image tells that it is ready, such as http://:8080/")
	fl.IntVarP(&o.N, "number", "n", o.N, "`number` of starts of each; other trials a third as often")
	fl.BoolVar(&o.Cold, "cold", false, "empty the host's page cache before each start")
	fl.StringVar(&o.Pin, "pin", "", "`processors` for the runtimes, such as 2-7; the load generator gets the others")
	fl.Uint64Var(&o.Seed, "seed", o.Seed, "`number` that the random order comes from")
	fl.IntSliceVar(&o.Parallel, "parallel", o.Parallel, "`numbers` of instances to start at once")
	fl.IntSliceVar(&o.Rates, "rates", o.Rates, "`rates` at which to take latencies, in requests a second")
	fl.IntSliceVar(&o.SortSizes, "sort-sizes", o.SortSizes, "`numbers` of integers to sort")
	fl.Float64Var(&o.Seconds, "seconds", o.Seconds, "`time` of load for a figure, in seconds")
	fl.IntVar(&o.Density, "density", o.Density, "largest `number` of instances at once in the suite density")
	fl.Int64Var(&o.DensityReserve, "density-reserve", o.DensityReserve, "`memory` in MiB that they leave the host")
	fl.Float64Var(&o.DensityP99, "density-p99", o.DensityP99, "`latency` in seconds of 99 of 100 requests to them at which they are too many")
	fl.DurationVar(&o.Timeout, "timeout", 0, "`time` that a start may take; for a distribution four times that (default 1m, and 3m on an emulated host)")
	fl.DurationVar(&o.Limit, "limit", o.Limit, "`time` for a runtime's trials of a suite; those that would take longer are left out")
	fl.StringVar(&o.Assets, "assets", assetsDir(), "`folder` with what 'make bench-assets' has built, or 'vmm bench install' unpacked")
	fl.StringVarP(&o.Dir, "output", "o", "", "`folder` for the results (default bench-DATE)")
	fl.BoolVar(&o.Resume, "resume", false, "go on with the run in the output folder")
	return cmd
}

// writeReport draws the report of a run's folder, and shows its summary.
func writeReport(dir string) error {
	run, err := result.Load(dir)
	if err != nil {
		return err
	}
	if err := report.Table(cli.Out(), run); err != nil {
		return err
	}
	path, err := report.Write(dir, run)
	if err != nil {
		return err
	}
	fmt.Fprintf(cli.Out(), "\nreport: %s\n", path)
	return nil
}

func newBenchList() *cobra.Command {
	assets := assetsDir()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the runtimes that are found, and how to get the others",
		Example: `  vmm bench list
  vmm bench list --assets DIR`,
		Args: cli.Usage(cli.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			t := tabwriter.NewWriter(cli.Out(), 0, 0, 2, ' ', 0)
			fmt.Fprint(t, "RUNTIME\tAPPLICATION\tKIND\tVERSION\n")
			for _, f := range bench.List(assets) {
				state := f.Version
				if f.Missing != "" {
					state = "missing: " + f.Missing
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Runtime, f.App, f.Kind, state)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&assets, "assets", assets, "`folder` with what 'make bench-assets' has built")
	return cmd
}

func newBenchInstall() *cobra.Command {
	assets := assetsDir()
	cmd := &cobra.Command{
		Use:   "install ARCHIVE",
		Short: "Unpack what instances are started from, on a host without the source",
		Long: `Unpack the archive that 'make bench-archive' has made of vmm's source: the
applications, their containers, the kernel and the unikernel. Debian, for the
runtime vm-distro, is not in it. It takes root.`,
		Example: `  vmm bench install bench-assets.tar.gz
  vmm bench install bench-assets.tar.gz --assets DIR`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(_ *cobra.Command, args []string) error { return bench.Install(args[0], assets) },
	}
	cmd.Flags().StringVar(&assets, "assets", assets, "`folder` to make")
	return cmd
}

func newBenchReport() *cobra.Command {
	return &cobra.Command{
		Use:   "report DIR...",
		Short: "Draw the report of a run again; of two, with a comparison",
		Example: `  vmm bench report results
  vmm bench report before after`,
		Args: cli.Usage(cli.Args(1, 2)),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, dir := range args {
				if err := writeReport(dir); err != nil {
					return err
				}
			}
			if len(args) == 2 {
				return compare(args[0], args[1])
			}
			return nil
		},
	}
}

func newBenchCompare() *cobra.Command {
	return &cobra.Command{
		Use:     "compare A B",
		Short:   "Compare two runs: what changed from A to B, and whether by chance",
		Example: `  vmm bench compare before after`,
		Args:    cli.Usage(cli.Args(2, 2)),
		RunE:    func(_ *cobra.Command, args []string) error { return compare(args[0], args[1]) },
	}
}

func compare(a, b string) error {
	before, errA := result.Load(a)
	after, errB := result.Load(b)
	if err := errors.Join(errA, errB); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return report.Compare(cli.Out(), before, after)
}
