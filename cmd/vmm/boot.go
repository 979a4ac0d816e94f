package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/boot/cache"
	"vmm/cmd/internal/cli"
	"vmm/console"
	"vmm/control"
	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/vsock"
	"vmm/disk"
	"vmm/machine"
	"vmm/memory"
	"vmm/trace"
)

// bootFlags are the flags of "vmm boot", as typed.
type bootFlags struct {
	kernel, initrd, append string
	cmdline                string
	memory                 cli.Size
	cpus                   int
	protocol               protocolFlag
	kaslr                  kaslrFlag
	hugePages              bool
	transparent            memory.Transparent
	prefault, debugExit    bool
	noCache, shareKernel   bool
	disks                  []machine.Disk
	nets                   []machine.Net
	rootfs                 string
	shares                 []machine.Share
	vsock                  *vsock.Config
	balloon                *balloon.Config
	console                consoleKind
	control                string
	rng                    bool
	transport              machine.Transport
	timeout                time.Duration
	trace                  traceFlags
	gdb                    gdbFlags
	json, verbose          bool
	web                    string
	paused                 bool
	timing                 timingFlags
}

func newBoot() *cobra.Command {
	f := bootFlags{memory: 512 << 20, transport: machine.TransportAuto, console: consoleSerial}
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Boot a kernel in a virtual machine",
		Long: `Boot a Linux kernel in a virtual machine, with this terminal as its serial
console. In the console, Ctrl-A x ends the machine and Ctrl-A h shows help.

Without --kernel the running machine's own kernel is booted.

Exit status: 0 when the guest powers off or resets, 1 after an error of vmm or
the host, 2 after wrong usage, 3 when the guest crashed, 124 when --timeout ran
out, 128 plus the signal that ended vmm, and (value<<1)|1 when the guest wrote
value to the --debug-exit port.`,
		Example: `  vmm boot --kernel vmlinuz --initrd initrd.cpio
  vmm boot --kernel vmlinuz --initrd initrd.cpio --cpus 2 --memory 1G --append quiet
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img
  vmm boot --kernel vmlinuz --initrd initrd.img --disk path=data.img,serial=data,iops=500 --disk path=base.qcow2,format=qcow2,ro
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --net user,hostfwd=tcp:127.0.0.1:2222-:22
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --net tap=tap0,queues=2 --cpus 2
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --share path=src,tag=src,ro --vsock cid=3,uds=vm.vsock
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --balloon size=128M,free-page-reporting --control vm.sock
  vmm boot --kernel vmlinuz --initrd initrd.cpio --trace boot.jsonl --trace-format jsonl
  vmm boot --kernel vmlinuz --initrd initrd.cpio --gdb tcp:127.0.0.1:1234 --wait-gdb
  vmm boot --kernel vmlinuz --initrd initrd.cpio --web 127.0.0.1:8080
  vmm boot --kernel vmlinuz --initrd initrd.cpio --timeline boot.json --ready console:login
  vmm boot --kernel vmlinux --boot-protocol pvh --timeout 30s </dev/null >boot.log
  vmm boot --kernel apic.flat --append "-smp 1" --debug-exit`,
		Args: cli.Usage(f.args),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.web != "" {
				return explore(f.web, cmd.Flags(), os.Args[1:])
			}
			return f.run(cmd.Flags().Changed("cmdline"))
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.kernel, "kernel", "", "kernel `file`: a bzImage, an ELF kernel such as vmlinux, or a Multiboot kernel;\nit may be compressed (default /boot/vmlinuz of the running kernel)")
	fl.StringVar(&f.initrd, "initrd", "", "initial RAM disk `file`")
	fl.StringVar(&f.cmdline, "cmdline", machine.DefaultCmdline, "kernel command `line`, instead of the default; {virtio_mmio} in it stands for\nthe devices of --transport mmio, as virtio_mmio.device=... words")
	fl.StringVar(&f.append, "append", "", "`words` to add to the kernel command line")
	fl.Var(&f.memory, "memory", "`size` of RAM, with K, M, G or T")
	fl.IntVar(&f.cpus, "cpus", 1, "`number` of processors")
	fl.Var(&f.protocol, "boot-protocol", "how the kernel is entered: auto, direct (unpacked by vmm),\nlinux64, linux32, pvh or multiboot")
	fl.Var(&f.kaslr, "kaslr", "random kernel addresses: auto, on (fail where impossible) or off (as linked)")
	fl.BoolVar(&f.hugePages, "hugepages", false, "take RAM from the host's pool of 2 MiB pages")
	fl.Var(&cli.Choice[memory.Transparent]{Value: &f.transparent, Values: []memory.Transparent{memory.TransparentOn, memory.TransparentOff, memory.TransparentHost}},
		"thp", "transparent huge pages for RAM: on, off, or host (as it is set there);\nwithout a value on (default host, with --share-kernel off)")
	fl.Lookup("thp").NoOptDefVal = string(memory.TransparentOn)
	fl.BoolVar(&f.prefault, "prefault", false, "take all RAM from the host before the start")
	fl.BoolVar(&f.noCache, "no-cache", false, "do not keep the unpacked kernel for the next start ($XDG_CACHE_HOME/vmm/unpacked)")
	fl.BoolVar(&f.shareKernel, "share-kernel", false, "share the pages of kernel and initrd with other machines that do")
	fl.StringVar(&f.rootfs, "rootfs", "", "image `file` to use as first disk and root file system: --disk path=file, --append \"root=/dev/vda rw\"")
	fl.Var(&listFlag[machine.Disk]{&f.disks, parseDisk, "disk"}, "disk", "add a disk: path=FILE[,ro][,format=raw|qcow2][,serial=S][,cache=writeback|none]\n[,iops=N][,bw=BYTES][,queues=N]; may be repeated")
	fl.Var(&listFlag[machine.Net]{&f.nets, parseNet, "net"}, "net", "add a network card: user[,hostfwd=tcp:127.0.0.1:8080-:80]... for a network of its own,\nor tap=NAME[,queues=N] for one of the host's; [,mac=ADDRESS][,mtu=BYTES][,pcap=FILE]; may be repeated")
	fl.Var(&listFlag[machine.Share]{&f.shares, parseShare, "share"}, "share", "share a folder: path=DIR,tag=NAME[,ro]; in the guest: mount -t 9p -o trans=virtio NAME /mnt;\nmay be repeated")
	fl.Var(&deviceFlag[vsock.Config]{&f.vsock, parseVsock, "vsock"}, "vsock", "connect programs of guest and host: cid=N,uds=PATH; a host's program connects to the unix\nsocket PATH and says \"CONNECT port\", and listens at PATH_port for the guest's")
	fl.Var(&deviceFlag[balloon.Config]{&f.balloon, parseBalloon, "balloon"}, "balloon", "let the guest lend memory back: [size=SIZE][,free-page-reporting]")
	fl.Lookup("balloon").NoOptDefVal = " "
	fl.Var(&cli.Choice[consoleKind]{Value: &f.console, Values: []consoleKind{consoleSerial, consoleVirtio}},
		"console", "the guest's console: serial (ttyS0) or virtio (hvc0, beside the serial port)")
	fl.StringVar(&f.control, "control", "", "`path` of a unix socket for 'vmm ctl'")
	fl.BoolVar(&f.paused, "paused", false, "hold the guest's first instruction until 'vmm ctl' or the web page has it go on")
	fl.StringVar(&f.web, "web", "", "`address` of a web page on the machine, such as 127.0.0.1:8080: see 'vmm explore'")
	fl.BoolVar(&f.rng, "rng", true, "add a source of random numbers")
	fl.Var(&cli.Choice[machine.Transport]{Value: &f.transport, Values: []machine.Transport{machine.TransportAuto, machine.TransportMMIO, machine.TransportPCI}},
		"transport", "how the guest reaches virtio devices: auto, mmio or pci")
	fl.BoolVar(&f.debugExit, "debug-exit", false, "let the guest end the machine through port 0xf4")
	fl.DurationVar(&f.timeout, "timeout", 0, "end the machine after this `time`, such as 30s (default never)")
	f.trace.register(fl)
	f.gdb.register(fl)
	f.timing.add(cmd)
	fl.BoolVar(&f.json, "json", false, "say how the machine ended as JSON on standard error")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log what vmm does on standard error")
	return cmd
}

// args takes the arguments that are not flags. There is one at the most: the
// value of --balloon, which is optional, and which pflag therefore leaves alone
// unless an equals sign ties it to the flag.
func (f *bootFlags) args(cmd *cobra.Command, args []string) (err error) {
	if len(args) == 1 && f.balloon != nil && *f.balloon == (balloon.Config{}) {
		if f.balloon, err = parseBalloon(args[0]); err != nil {
			err = fmt.Errorf("--balloon %q: %w", args[0], err)
		}
		return err
	}
	return cli.NoArgs(cmd, args)
}

// consoleKind is what the guest has for a console.
type consoleKind string

const (
	consoleSerial consoleKind = "serial"
	consoleVirtio consoleKind = "virtio"
)

// protocolFlag is a boot protocol by name.
type protocolFlag boot.Protocol

func (p *protocolFlag) String() string { return boot.Protocol(*p).String() }
func (p *protocolFlag) Type() string   { return "name" }
func (p *protocolFlag) Set(v string) error {
	protocol, err := boot.ParseProtocol(v)
	*p = protocolFlag(protocol)
	return err
}

// kaslrFlag is a choice of random addresses by name.
type kaslrFlag boot.KASLR

func (k *kaslrFlag) String() string { return boot.KASLR(*k).String() }
func (k *kaslrFlag) Type() string   { return "when" }
func (k *kaslrFlag) Set(v string) error {
	kaslr, err := boot.ParseKASLR(v)
	*k = kaslrFlag(kaslr)
	return err
}

// config turns the flags into the machine that they describe.
func (f *bootFlags) config(ownCmdline bool) (machine.Config, error) {
	cfg := machine.Config{
		Kernel:    f.kernel,
		Initrd:    f.initrd,
		Append:    f.append,
		Protocol:  boot.Protocol(f.protocol),
		KASLR:     boot.KASLR(f.kaslr),
		Memory:    uint64(f.memory),
		HugePages: f.hugePages,
		Prefault:  f.prefault,

		TransparentHugePages: f.transparent,
		ShareKernel:          f.shareKernel,

		CPUs:      f.cpus,
		DebugExit: f.debugExit,
		Disks:     f.disks,
		Nets:      f.nets,
		Shares:    f.shares,
		Vsock:     f.vsock,
		Balloon:   f.balloon,
		RNG:       f.rng,
		Transport: f.transport,

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
	case f.gdb.address == "" && f.gdb.wait:
		return errors.New("--wait-gdb needs --gdb")
	case f.gdb.address == "" && f.gdb.any:
		return errors.New("--gdb-any-address needs --gdb")
	}
	return nil
}

func (f *bootFlags) run(ownCmdline bool) error {
	start := time.Now()
	cfg, err := f.config(ownCmdline)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	logs := newLogs(f.verbose)
	defer logs.release()
	cfg.Log = logs.logger

	// From here to the end of the run a signal is a wish, to be granted with
	// the terminal restored. So is a reader of the console that goes away: it
	// comes as an error of the write.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer cancelOnSignal(cancel)()
	if f.timeout > 0 {
		defer time.AfterFunc(f.timeout, func() { cancel(errTimeout) }).Stop()
	}
	var lost error // output that the guest wrote
	out, err := console.NewOutput(os.Stdout, func(err error) {
		lost = fmt.Errorf("console: %w", err)
		cancel(lost)
	})
	if err != nil {
		return err
	}
	defer out.Close()
	defer context.AfterFunc(ctx, out.Abort)()
	cfg.Console = out
	var recent *console.Recent
	if f.control != "" {
		recent = console.NewRecent(out)
		cfg.Console = recent
	}
	timing, err := f.timing.start(&cfg)
	if err != nil {
		return err
	}
	defer timing.close()

	m, err := machine.New(cfg)
	if err != nil {
		return err
	}
	defer m.Close()
	if f.paused {
		m.Pause()
	}
	names := &liveSymbols{ctx: ctx, m: m}
	endTrace, err := f.trace.start(m, names)
	if err != nil {
		return err
	}
	defer endTrace()
	endGDB, err := f.gdb.serve(m, func() { cancel(errQuit) }, cfg.Log)
	if err != nil {
		return err
	}
	gdbStatus := 0
	defer func() { endGDB(gdbStatus) }()
	var typed typing
	if f.control != "" {
		counting := &counting{}
		defer counting.end()
		server := control.NewServer(controlled{
			Machine: m, ctx: ctx, stop: func() { cancel(errQuit) }, config: cfg, counting: counting,
			seconds: func() float64 { return time.Since(start).Seconds() },
			console: recent, input: &typed, names: names,
		})
		if err := server.Listen(f.control); err != nil {
			return err
		}
		defer server.Close()
	}
	terminal, err := console.OpenTerminal(os.Stdin)
	if err != nil {
		return err
	}
	defer terminal.Restore()
	input, err := terminal.Start(m.Console(), console.Commands{
		Quit: func() { cancel(errQuit) },
		Help: func() { _, _ = out.Write([]byte(strings.ReplaceAll(console.Help, "\n", "\r\n"))) },
	})
	if err != nil {
		return err
	}
	typed.input.Store(input)
	stopResizing := terminal.OnResize(m.ResizeConsole)
	stopTrimming := atRest(func() uint64 { return m.Stats().Exits }, func() {
		if err := trim(); err != nil {
			cfg.Log.Debug("memory not given back", "error", err)
		}
	})
	var now io.Writer // for what is worth saying while the guest runs
	switch {
	case f.json: // standard error is for the report
	case terminal.Raw():
		now = rawLines{os.Stderr}
	default:
		now = os.Stderr
	}
	slow := watchForSlowHost(m, now)
	stopWaiting := timing.wait(ctx)
	outcome, err := m.Run(ctx)
	stopWaiting()
	stopTrimming()
	stopResizing()
	if err == nil {
		err = lost
	}
	input.Stop()
	terminal.Restore()
	endTrace()
	logs.release()

	r := newReport(outcome, err, context.Cause(ctx))
	r.Seconds = time.Since(start).Seconds()
	r.Stats = m.Stats()
	r.Silent = newSilence(m, r)
	slow.finish(r)
	r.lost(timing.finish(m, cfg.Kernel, r))
	r.print(os.Stderr, f.json)
	gdbStatus = r.Status
	if r.Status != cli.OK {
		return cli.ExitStatus(r.Status)
	}
	return nil
}

// Causes for which the context of a run is cancelled, besides a signal and a
// console that cannot be written to.
var (
	errTimeout = errors.New("timeout")
	errQuit    = errors.New("Ctrl-A x")
)

// signalError is a signal that ended the run.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return e.Signal.String() }

// cancelOnSignal cancels with the first signal that asks vmm to end. It
// returns a function that stops listening.
func cancelOnSignal(cancel context.CancelCauseFunc) func() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		if s, ok := <-signals; ok {
			cancel(signalError{s.(syscall.Signal)})
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
