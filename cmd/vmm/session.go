package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"vmm/cmd/internal/cli"
	"vmm/console"
	"vmm/control"
	"vmm/machine"
	"vmm/sandbox"
)

// session is one run of a virtual machine: from the flags, through the steps of
// run, to the report.
type session struct {
	flags  *bootFlags
	config func() (machine.Config, error) // from the flags
	end    *ending

	cfg      machine.Config
	out      *console.Output
	outErr   error           // the console's output could not be written
	recent   *console.Recent // nil without a control socket
	typed    typing
	logs     *logs
	timing   *timing
	machine  *machine.Machine
	names    *liveSymbols
	endTrace func()
	terminal *console.Terminal
	input    *console.Input
	own      own
	cage     atomic.Pointer[sandbox.Cage] // nil before it is closed

	report *report  // nil until the guest has ended
	undo   []func() // what release does, last first
}

// run runs the machine of a configuration, which is made from the flags, and returns
// when it has ended and its end has been reported.
func (f *bootFlags) run(config func() (machine.Config, error)) error {
	s := &session{flags: f, config: config, end: newEnding(f.json, f.debugExit.on)}
	defer s.end.close()
	if err := s.run(); err != nil {
		return f.debugExit.tellApart(err)
	}
	return s.end.tell(s.report)
}

// run takes the steps of a run one after the other, and releases what they took.
func (s *session) run() error {
	defer s.release()
	for _, step := range []func() error{
		s.configure,
		s.openConsole,
		s.startMeasuring,
		s.startBroker,
		s.build,
		s.startTrace,
		s.serveGDB,
		s.serveControl,
		s.attachTerminal,
		s.closeCage,
		s.execute,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// later has release call f.
func (s *session) later(f func()) { s.undo = append(s.undo, f) }

func (s *session) release() {
	for _, f := range slices.Backward(s.undo) {
		f()
	}
}

// quit ends the run as Ctrl-A x does.
func (s *session) quit() { s.end.cancel(errQuit) }

// configure checks the flags. From here on signals and --timeout end the run.
func (s *session) configure() (err error) {
	if s.cfg, err = s.config(); err != nil {
		return err
	}
	if err := cmp.Or(s.flags.check(), s.cfg.Validate()); err != nil {
		return cli.UsageError{Err: err}
	}
	if err := checkLimits(s.cfg.Memory); err != nil {
		return err
	}
	// A reader of the console that goes away comes as an error of the write.
	signal.Ignore(syscall.SIGPIPE)
	s.end.onSignals()
	s.end.after(s.flags.timeout)
	return nil
}

// openConsole opens the output of the guest's console and of vmm's own messages.
func (s *session) openConsole() (err error) {
	s.out, err = console.NewOutput(os.Stdout, func(err error) {
		s.outErr = fmt.Errorf("console: %w", err)
		s.end.cancel(s.outErr)
	})
	if err != nil {
		return err
	}
	s.later(func() { s.out.Close() })
	keepWaiting := context.AfterFunc(s.end.patience, s.out.Abort)
	s.later(func() { keepWaiting() })

	s.logs = newLogs(s.flags.verbose, s.out)
	s.later(s.logs.release)
	s.cfg.Log, s.cfg.Console = s.logs.logger, s.out
	if s.flags.control != "" {
		s.recent = console.NewRecent(s.out)
		s.cfg.Console = s.recent
	}
	return nil
}

// startMeasuring prepares --timeline, --ready and --profile.
func (s *session) startMeasuring() (err error) {
	if s.timing, err = s.flags.timing.start(&s.cfg); err != nil {
		return err
	}
	s.later(func() { s.timing.close() })
	return nil
}

// build makes the machine. When it is released, vmm has a limited time to end.
func (s *session) build() (err error) {
	if s.machine, err = machine.New(s.cfg); err != nil {
		return err
	}
	s.end.running(s.machine)
	s.later(func() {
		if closing := s.machine.Close(); s.report != nil {
			s.report.lost(closing)
		}
	})
	s.later(s.end.begin)
	if s.flags.paused {
		s.machine.Pause()
	}
	s.names = &liveSymbols{ctx: s.end.patience, m: s.machine}
	return nil
}

func (s *session) startTrace() (err error) {
	if s.endTrace, err = s.flags.trace.start(s.machine, s.names, s.logs.errors); err != nil {
		return err
	}
	s.later(s.endTrace)
	return nil
}

func (s *session) serveGDB() error {
	endGDB, err := s.flags.gdb.serve(s.machine, s.quit, s.cfg.Log, s.logs.errors)
	if err != nil {
		return err
	}
	s.later(func() {
		status := 0
		if s.report != nil {
			status = s.report.Status
		}
		endGDB(status)
	})
	return nil
}

// serveControl opens the control socket.
func (s *session) serveControl() error {
	if s.flags.control == "" {
		return nil
	}
	counting := &counting{}
	s.later(counting.end)
	statm, err := os.Open("/proc/self/statm")
	if err != nil {
		return err
	}
	s.later(func() { statm.Close() })
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	s.later(func() { pagemap.Close() })
	server := control.NewServer(controlled{
		Machine: s.machine, ctx: s.end.patience, stop: s.quit, config: s.cfg, counting: counting,
		seconds: s.end.seconds, statm: statm, pagemap: pagemap, cage: &s.cage,
		console: s.recent, input: &s.typed, names: s.names,
	})
	if err := server.Listen(s.flags.control); err != nil {
		return err
	}
	s.later(func() { server.Close() })
	return nil
}

// attachTerminal gives what is typed at the terminal to the guest.
func (s *session) attachTerminal() (err error) {
	if s.terminal, err = console.OpenTerminal(os.Stdin); err != nil {
		return err
	}
	s.end.terminal.Store(s.terminal)
	s.later(func() { s.terminal.Restore() })
	s.input, err = s.terminal.Start(s.machine.Console(), console.Commands{
		Quit: s.quit,
		Help: func() { _, _ = s.out.Write([]byte(strings.ReplaceAll(console.Help, "\n", "\r\n"))) },
	})
	if err != nil {
		return err
	}
	s.typed.input.Store(s.input)
	return nil
}

// execute runs the guest until it ends, and makes the report. What writes files or
// has readers is ended one by one, so that a run that does not end can say where it
// waits.
func (s *session) execute() error {
	m, end := s.machine, s.end
	stopResizing := s.terminal.OnResize(m.ResizeConsole)
	stopTrimming := atRest(func() uint64 { return m.Stats().Exits }, func() {
		if s.own.trimming == nil {
			return
		}
		if err := s.own.trimming.trim(); err != nil {
			s.cfg.Log.Debug("memory not given back", "error", err)
		}
	})
	slow := watchForSlowHost(m, s.own.host, s.logs.now(s.flags.json))
	stopWaiting := s.timing.wait(end.ctx)
	outcome, err := m.Run(end.ctx)
	stopWaiting()
	stopTrimming()
	stopResizing()

	end.doing("the input of the console")
	s.input.Stop()
	s.terminal.Restore()
	end.doing("the trace")
	s.endTrace()
	r := newReport(outcome, cmp.Or(err, s.outErr), context.Cause(end.ctx), s.flags.debugExit.on)
	r.Seconds, r.Stats = end.seconds(), m.Stats()
	r.Silent = newSilence(m, r)
	slow.finish(r)
	end.doing("the timeline or profile")
	r.lost(s.timing.finish(m, s.cfg.Kernel, r))
	end.doing("gdb, or the control socket")
	s.report = r
	return nil
}
