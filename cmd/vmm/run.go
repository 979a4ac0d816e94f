package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/boot/cache"
	"vmm/cmd/internal/cli"
	"vmm/console"
	"vmm/control"
	"vmm/disk"
	"vmm/machine"
	"vmm/trace"
)

// config turns the flags into the machine that they describe.
func (f *bootFlags) config(ownCmdline bool) (machine.Config, error) {
	cfg := machine.Config{
		Kernel:    f.kernel,
		Initrd:    f.initrd,
		Modules:   f.modules,
		Append:    string(f.append),
		Protocol:  boot.Protocol(f.protocol),
		KASLR:     boot.KASLR(f.kaslr),
		Memory:    uint64(f.memory),
		HugePages: f.hugePages,
		Prefault:  f.prefault,

		TransparentHugePages: f.transparent,
		ShareKernel:          f.shareKernel,

		CPUs:      f.cpus,
		DebugExit: f.debugExit.on,
		Disks:     f.disks,
		Nets:      f.nets,
		Shares:    f.shares,
		Vsock:     f.vsock,
		Balloon:   f.balloon,
		RNG:       f.rng,
		Transport: f.transport,

		DebugExitPort: f.debugExit.port,
		DoorbellExits: f.trace.doorbells,
		VirtioConsole: f.console == consoleVirtio,
	}
	if f.rootfs != "" {
		root := machine.Disk{Config: disk.Config{Path: f.rootfs}}
		cfg.Disks = append([]machine.Disk{root}, cfg.Disks...)
		cfg.Append = strings.TrimSpace("root=/dev/vda rw " + cfg.Append)
	}
	if ownCmdline {
		cfg.Cmdline = &f.cmdline
	}
	if !f.noCache {
		// Without a home there is no cache, and no reason not to boot.
		cfg.Cache, _ = cache.Dir()
	}
	if cfg.Kernel == "" {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			return cfg, fmt.Errorf("uname: %w", err)
		}
		cfg.Kernel = "/boot/vmlinuz-" + unix.ByteSliceToString(uts.Release[:])
		if err := unix.Access(cfg.Kernel, unix.R_OK); err != nil {
			return cfg, fmt.Errorf("no --kernel given, and this machine's own, %s, is not readable: %w; choose one with --kernel", cfg.Kernel, err)
		}
	}
	return cfg, nil
}

// check looks for flags that make no sense, or none without another.
func (f *bootFlags) check() error {
	switch {
	case f.timeout < 0:
		return fmt.Errorf("--timeout %v: choose a time above 0", f.timeout)
	case f.paused && f.control == "":
		return errors.New("--paused needs --control or --web: nobody could have the guest go on")
	case f.trace.path == "" && (f.trace.format != trace.Text || f.trace.filter.text != ""):
		return errors.New("--trace-format and --trace-filter need --trace")
	}
	return cmp.Or(f.gdb.check(), f.timing.check())
}

// run boots the machine that the flags describe, and returns when it has ended and
// its end has been told.
func (f *bootFlags) run(ownCmdline bool) error {
	end := newEnding(f.json, f.debugExit.on)
	defer end.close()
	r, err := f.runMachine(end, ownCmdline)
	if err != nil {
		return f.debugExit.tellApart(err)
	}
	return end.tell(r)
}

// runMachine runs the machine, and lets go of all that it took.
func (f *bootFlags) runMachine(end *ending, ownCmdline bool) (r *report, err error) {
	cfg, err := f.config(ownCmdline)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(f.check(), cfg.Validate()); err != nil {
		return nil, cli.UsageError{Err: err}
	}
	if err := checkLimits(cfg.Memory); err != nil {
		return nil, err
	}
	// A reader of the console that goes away comes as an error of the write.
	signal.Ignore(syscall.SIGPIPE)
	end.onSignals()
	end.after(f.timeout)
	var lost error // output that the guest wrote
	out, err := console.NewOutput(os.Stdout, func(err error) {
		lost = fmt.Errorf("console: %w", err)
		end.cancel(lost)
	})
	if err != nil {
		return nil, err
	}
	defer out.Close()
	defer context.AfterFunc(end.patience, out.Abort)()
	logs := newLogs(f.verbose, out)
	defer logs.release()
	cfg.Log, cfg.Console = logs.logger, out
	var recent *console.Recent
	if f.control != "" {
		recent = console.NewRecent(out)
		cfg.Console = recent
	}
	timing, err := f.timing.start(&cfg)
	if err != nil {
		return nil, err
	}
	defer timing.close()

	m, err := machine.New(cfg)
	if err != nil {
		return nil, err
	}
	end.running(m)
	defer func() {
		if closing := m.Close(); r != nil {
			r.lost(closing)
		}
	}()
	defer end.begin()
	if f.paused {
		m.Pause()
	}
	names := &liveSymbols{ctx: end.patience, m: m}
	endTrace, err := f.trace.start(m, names, logs.errors)
	if err != nil {
		return nil, err
	}
	defer endTrace()
	endGDB, err := f.gdb.serve(m, func() { end.cancel(errQuit) }, cfg.Log, logs.errors)
	if err != nil {
		return nil, err
	}
	defer func() {
		status := 0
		if r != nil {
			status = r.Status
		}
		endGDB(status)
	}()
	var typed typing
	if f.control != "" {
		counting := &counting{}
		defer counting.end()
		server := control.NewServer(controlled{
			Machine: m, ctx: end.patience, stop: func() { end.cancel(errQuit) }, config: cfg, counting: counting,
			seconds: end.seconds,
			console: recent, input: &typed, names: names,
		})
		if err := server.Listen(f.control); err != nil {
			return nil, err
		}
		defer server.Close()
	}
	terminal, err := console.OpenTerminal(os.Stdin)
	if err != nil {
		return nil, err
	}
	end.terminal.Store(terminal)
	defer terminal.Restore()
	input, err := terminal.Start(m.Console(), console.Commands{
		Quit: func() { end.cancel(errQuit) },
		Help: func() { _, _ = out.Write([]byte(strings.ReplaceAll(console.Help, "\n", "\r\n"))) },
	})
	if err != nil {
		return nil, err
	}
	typed.input.Store(input)
	stopResizing := terminal.OnResize(m.ResizeConsole)
	stopTrimming := atRest(func() uint64 { return m.Stats().Exits }, func() {
		if err := trim(); err != nil {
			cfg.Log.Debug("memory not given back", "error", err)
		}
	})
	slow := watchForSlowHost(m, logs.now(f.json))
	stopWaiting := timing.wait(end.ctx)
	outcome, err := m.Run(end.ctx)
	stopWaiting()
	stopTrimming()
	stopResizing()
	if err == nil {
		err = lost
	}
	end.doing("the input of the console")
	input.Stop()
	terminal.Restore()
	end.doing("the trace")
	endTrace()
	r = newReport(outcome, err, context.Cause(end.ctx), f.debugExit.on)
	r.Seconds, r.Stats = end.seconds(), m.Stats()
	r.Silent = newSilence(m, r)
	slow.finish(r)
	end.doing("the timeline or profile")
	r.lost(timing.finish(m, cfg.Kernel, r))
	end.doing("gdb, or the control socket")
	return r, nil
}
