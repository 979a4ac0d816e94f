package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"vmm/cmd/internal/cli"
	"vmm/machine"
	"vmm/trace"
	"vmm/untrusted"
)

// traceFlags are the flags that say what to trace, and where to.
type traceFlags struct {
	path      string
	format    trace.Format
	filter    filterFlag
	doorbells bool
}

func (f *traceFlags) register(fl *pflag.FlagSet) {
	f.format = trace.Text
	fl.StringVar(&f.path, "trace", "", "write a trace of what happens between guest and vmm to this `file`; - for standard error")
	f.registerFormat(fl)
	fl.BoolVar(&f.doorbells, "trace-doorbells", false, "have virtio doorbells come as exits, which KVM otherwise answers itself")
}

func (f *traceFlags) registerFormat(fl *pflag.FlagSet) {
	fl.Var(&cli.Choice[trace.Format]{Value: &f.format, Values: trace.Formats}, "trace-format", "of the trace: text, jsonl or chrome (for ui.perfetto.dev)")
	fl.Var(&f.filter, "trace-filter", "trace only what matches, as \"device=COM1 op=write\"; 'vmm trace --help' says more")
}

// filterFlag is a filter as typed.
type filterFlag struct {
	text string
	trace.Filter
}

func (f *filterFlag) String() string { return f.text }
func (f *filterFlag) Type() string   { return "conditions" }
func (f *filterFlag) Set(v string) (err error) {
	f.text = v
	f.Filter, err = trace.ParseFilter(v)
	return err
}

const traceLong = `Boot a virtual machine and write down what happens between the guest and vmm, a
line each:

  exits       the vCPU, why it left the guest, the instruction, the device and its
              register by name, the value and what it means, and the time in the
              guest before and in vmm after
  interrupts  that a device raised, lowered, pulsed or sent as a message
  requests    of virtqueues: the doorbell, when the device took the request and
              when it gave it back

What KVM does by itself is not seen: its interrupt controllers and timer, most
model-specific registers, CPUID, page faults, HLT. --trace-doorbells brings virtio
doorbells back out of KVM, at the price of an exit each.

When records come faster than they can be written, some are dropped, and the trace
says how many. When the trace cannot be written any more (a full disk), it ends
with a message, and the machine goes on.

A filter is conditions that must all hold:

` + trace.FilterKeys + `

All flags of 'vmm boot' apply. Exit status: that of 'vmm boot'.`

func newTrace() *cobra.Command {
	cmd := newBoot()
	cmd.Use = "trace"
	cmd.Short = "Boot a virtual machine and trace its exits"
	cmd.Long = traceLong
	cmd.Example = `  vmm trace --kernel vmlinuz --initrd initrd.cpio 2>trace.txt
  vmm trace --kernel vmlinuz --initrd initrd.cpio --trace-filter 'device=virtio-*' --trace-doorbells
  vmm trace --kernel vmlinuz --initrd initrd.cpio --trace boot.json --trace-format chrome
  vmm trace --kernel vmlinuz --initrd initrd.cpio --trace boot.jsonl --trace-format jsonl
  vmm trace show boot.jsonl --trace-filter 'kind=exit vmm=100us'`
	if err := cmd.Flags().Set("trace", "-"); err != nil {
		panic(err)
	}
	path := cmd.Flags().Lookup("trace")
	path.DefValue, path.Changed = "-", false
	cmd.AddCommand(newTraceShow())
	return cmd
}

func newTraceShow() *cobra.Command {
	f := traceFlags{format: trace.Text}
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show a trace that was written as JSON lines",
		Long: `Read a trace that was written with --trace-format jsonl and write it in another
format, or a part of it, to standard output. FILE - is standard input.

` + trace.FilterKeys,
		Example: `  vmm trace show boot.jsonl
  vmm trace show boot.jsonl --trace-format chrome >boot.json
  vmm trace show boot.jsonl --trace-filter 'device=COM1 register=LCR,MCR'`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := io.NopCloser(os.Stdin)
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("trace: %w", err)
				}
				in = file
			}
			defer in.Close()
			return convert(cmd.OutOrStdout(), in, &f)
		},
	}
	f.registerFormat(cmd.Flags())
	return cmd
}

// maxEvent is how long the line of an event may be, in bytes.
const maxEvent = 64 << 10

// convert copies the events of a trace that a filter chooses.
func convert(w io.Writer, r io.Reader, f *traceFlags) error {
	out := bufio.NewWriter(w)
	encoder := trace.NewEncoder(f.format)
	var line bytes.Buffer
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var e trace.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			_ = out.Flush()
			return fmt.Errorf("trace: line %d is not an event; was it written with --trace-format jsonl? %w", n, err)
		}
		if !f.filter.Match(&e) {
			continue
		}
		untrusted.Clean(&e)
		line.Reset()
		if err := encoder.Append(&line, &e); err != nil {
			return err
		}
		if _, err := line.WriteTo(out); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		_ = out.Flush()
		return fmt.Errorf("trace: %w", err)
	}
	line.Reset()
	encoder.End(&line)
	if _, err := line.WriteTo(out); err != nil {
		return err
	}
	return out.Flush()
}

// rawTerminal writes to a terminal in raw mode, where a new line does not begin at
// the left.
type rawTerminal struct{ io.Writer }

func (t rawTerminal) Write(p []byte) (int, error) {
	if _, err := t.Writer.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// traceEnd is how long the reader of a trace may take to take the end of it.
const traceEnd = 500 * time.Millisecond

// start begins the trace that the flags ask for, if any, and returns what ends
// it. A trace that cannot be written says so to messages.
func (f *traceFlags) start(m *machine.Machine, symbols trace.Symbols, messages io.Writer) (end func(), err error) {
	if f.path == "" {
		return func() {}, nil
	}
	file, name := os.Stderr, "standard error"
	if f.path != "-" {
		name = f.path
		if file, err = os.Create(f.path); err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
	}
	w := untrusted.Writer(file) // a file is to be read too
	if file == os.Stderr && term.IsTerminal(syscall.Stderr) {
		w = rawTerminal{w} // the console has made it one
	}
	stop := make(chan func(), 1)
	out := trace.NewOutput(w, f.format, f.filter.Filter, symbols, func(err error) {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		fmt.Fprintf(messages, "vmm: trace: %s cannot be written to: %v; the trace ends here, the machine goes on\n", name, err)
		go func() { (<-stop)() }() // not here: it waits for us
	})
	stopTracing := m.Trace(out, true)
	stop <- stopTracing
	return sync.OnceFunc(func() {
		// A reader of a pipe that stands still is left to itself.
		giveUp := time.AfterFunc(traceEnd, func() { _ = file.SetWriteDeadline(time.Now()) })
		defer giveUp.Stop()
		stopTracing()
		out.End()
		if file != os.Stderr {
			_ = file.Close()
		}
	}), nil
}
