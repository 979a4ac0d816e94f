package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmm/boot/kallsyms"
	"vmm/cmd/internal/cli"
	"vmm/machine"
	"vmm/profile"
	"vmm/timeline"
	"vmm/untrusted"
)

// timingFlags are the flags of "vmm boot" that say what to measure.
type timingFlags struct {
	timeline  string
	ready     timeline.Condition
	bootTimer bool
	profile   string
	rate      int
}

func (f *timingFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.timeline, "timeline", "", "record the start in `file`, as JSON that Perfetto opens and 'vmm timeline' draws;\nstops the guest at phases and initcalls, and tells what that cost")
	f.addReady(fl)
	fl.BoolVar(&f.bootTimer, "boot-timer", false, "add Firecracker's boot timer: the guest writes 123 to the byte at 0xc0000000, the report tells when")
	f.addProfile(fl)
}

func (f *timingFlags) addReady(fl *pflag.FlagSet) {
	fl.Var(&conditionFlag{&f.ready}, "ready", "what makes the guest ready: console:TEXT, tcp:HOST:PORT (it answers) or marker:N (on port 0x80);\nthe report and the timeline tell when")
}

func (f *timingFlags) addProfile(fl *pflag.FlagSet) {
	fl.StringVar(&f.profile, "profile", "", "sample where the guest's processors are, and write folded stacks to `file` for a flame graph")
	fl.IntVar(&f.rate, "profile-rate", 1000, "`samples` a second of each processor")
}

func (f *timingFlags) check() error {
	if f.rate < 1 || f.rate > maxRate {
		return fmt.Errorf("--profile-rate %d: choose between 1 and %d", f.rate, maxRate)
	}
	return nil
}

// maxRate is so many samples a second that the guest hardly runs.
const maxRate = 10_000

// conditionFlag is a flag that says what makes a guest ready.
type conditionFlag struct{ c *timeline.Condition }

func (f *conditionFlag) String() string { return "" }
func (f *conditionFlag) Type() string   { return "what" }
func (f *conditionFlag) Set(v string) (err error) {
	*f.c, err = timeline.ParseCondition(v)
	return err
}

// timing is what is measured of a run.
type timing struct {
	flags    *timingFlags
	recorder *timeline.Recorder // nil for nothing
	profile  *machine.Profile   // likewise
	files    []*os.File         // for the timeline, for the profile; nil without
	log      *slog.Logger
}

// start begins to measure. The files are created here: who cannot write there
// learns it before the guest has run.
func (f *timingFlags) start(cfg *machine.Config) (_ *timing, err error) {
	t := &timing{flags: f, files: make([]*os.File, 2), log: cfg.Log}
	for i, path := range []string{f.timeline, f.profile} {
		if path == "" {
			continue
		}
		if t.files[i], err = os.Create(path); err != nil {
			t.close()
			return nil, err
		}
	}
	if f.timeline != "" || f.bootTimer || f.ready != (timeline.Condition{}) {
		t.recorder = timeline.New(timeline.ExecTime())
		t.recorder.Mark(timeline.VMMReady, timeline.FromVMM)
		t.recorder.Probes = f.timeline != ""
		t.recorder.Condition = f.ready
		cfg.Console = t.recorder.Console(cfg.Console)
		cfg.Timeline = t.recorder
	}
	if f.profile != "" {
		t.profile = &machine.Profile{Profile: profile.New(), Rate: f.rate}
		cfg.Profile = t.profile
	}
	cfg.BootTimer = f.bootTimer
	return t, nil
}

// wait waits until a TCP port answers, if that is what makes the guest ready,
// and returns a function that ends that.
func (t *timing) wait(ctx context.Context) (stop func()) {
	addr := t.flags.ready.TCP
	if addr == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.recorder.WaitTCP(ctx, addr)
	}()
	return func() {
		cancel()
		<-done
	}
}

// finish writes the files of a machine that has ended, and completes its report.
func (t *timing) finish(m *machine.Machine, kernel string, r *report) error {
	r.ReadySeconds = t.seconds(timeline.Ready)
	r.BootTimerSeconds = t.seconds(timeline.BootTimer)
	var errs []error
	if f := t.files[0]; f != nil {
		if _, err := t.recorder.Data(kernel).WriteTo(f); err != nil {
			errs = append(errs, fmt.Errorf("timeline: %w", err))
		}
	}
	if f := t.files[1]; f != nil {
		symbols, err := m.KernelSymbols(context.Background())
		if err != nil {
			t.log.Debug("no names for the profile", "error", err)
		}
		if err := t.profile.Write(f, functions(symbols)); err != nil {
			errs = append(errs, fmt.Errorf("profile: %w", err))
		}
	}
	return errors.Join(append(errs, t.close())...)
}

// seconds is when a phase was reached, in seconds after exec; nil for not at all.
func (t *timing) seconds(p timeline.Phase) *float64 {
	d, ok := t.recorder.Since(p)
	if !ok {
		return nil
	}
	s := d.Seconds()
	return &s
}

func (t *timing) close() error {
	var errs []error
	for i, f := range t.files {
		if f != nil {
			errs = append(errs, f.Close())
			t.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// functions names the functions of a kernel, of which there may be no symbols.
func functions(symbols *kallsyms.Table) func(rip uint64) string {
	return func(rip uint64) string {
		if symbols == nil {
			return ""
		}
		if rip < 1<<63 { // in the lower half, for a kernel that unpacks itself
			return "before the kernel"
		}
		s, _, _ := symbols.At(rip)
		return untrusted.Text(s.Name)
	}
}

func newTimeline() *cobra.Command {
	n, svg := 10, false
	cmd := &cobra.Command{
		Use:   "timeline FILE",
		Short: "Draw a timeline that 'vmm boot --timeline FILE' has recorded",
		Long: `Draw the start of a machine, phase by phase, with its slowest initcalls. The
file itself also opens in Perfetto (https://ui.perfetto.dev) and Chrome's
about:tracing.`,
		Example: `  vmm boot --kernel vmlinuz --initrd initrd.cpio --timeline boot.json
  vmm timeline boot.json
  vmm timeline --initcalls -1 boot.json
  vmm timeline --svg boot.json >boot.svg`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			data, err := timeline.Read(f)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			untrusted.Clean(&data)
			if svg {
				if err := data.WriteSVG(cmd.OutOrStdout()); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return nil
			}
			_, err = data.WriteText(cmd.OutOrStdout(), n)
			return err
		},
	}
	cmd.Flags().BoolVar(&svg, "svg", false, "draw a picture, as SVG")
	cmd.Flags().IntVar(&n, "initcalls", n, "`number` of initcalls to list; -1 for all, in order")
	return cmd
}

// duration is seconds for a person.
func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)
}
