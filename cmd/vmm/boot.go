package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmm/boot"
	"vmm/cmd/internal/cli"
	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/vsock"
	"vmm/machine"
	"vmm/memory"
	"vmm/sandbox"
)

// defaultSandbox is the mode without --sandbox: another one in tests of a binary that
// cannot be caged.
var defaultSandbox = sandbox.Auto

// bootFlags are the flags of "vmm boot", as typed.
type bootFlags struct {
	kernel, initrd       string
	append               cli.Words
	cmdline              string
	modules              []machine.Module
	memory               cli.Size
	cpus                 int
	nested               bool
	protocol             protocolFlag
	kaslr                kaslrFlag
	hugePages            bool
	transparent          memory.Transparent
	prefault             bool
	debugExit            debugExitFlag
	noCache, shareKernel bool
	disks                []machine.Disk
	nets                 []machine.Net
	rootfs               string
	shares               []machine.Share
	vsock                *vsock.Config
	balloon              *balloon.Config
	console              consoleKind
	control              string
	rng                  bool
	transport            machine.Transport
	timeout              time.Duration
	trace                traceFlags
	gdb                  gdbFlags
	json, verbose        bool
	sandbox              sandbox.Mode
	web                  string
	paused               bool
	timing               timingFlags
	file                 configFlags
}

func newBoot() *cobra.Command {
	f := bootFlags{memory: 512 << 20, transport: machine.TransportAuto, console: consoleSerial, sandbox: defaultSandbox}
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Boot a kernel in a virtual machine",
		Long: `Boot a Linux kernel in a virtual machine, with this terminal as its serial
console. In the console, Ctrl-A x ends the machine and Ctrl-A h shows help.

Without --kernel the running machine's own kernel is booted. In flags that take
keys and values, a comma that belongs to a value is written twice:
--disk path=a,,b.img. Kernel and initrd may come out of a pipe.

Exit status: 0 when the guest powers off or resets, 1 after an error of vmm or
the host, 2 after wrong usage, 3 when the guest crashed, 124 when --timeout ran
out, and 128 plus the signal that ended vmm.

With --debug-exit, a guest that writes value to the port sets the status
(value<<1)|1, as with QEMU. Every odd status is the guest's then, and those of
vmm's own are even: 0, 2 and 124 as above, 4 after an error of vmm or the host, 6
when the guest crashed, and 8 when a signal ended vmm.`,
		Example: `  vmm boot --kernel vmlinuz --initrd initrd.cpio
  vmm boot --kernel vmlinuz --initrd initrd.cpio --cpus 2 --memory 1G --append quiet
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img
  vmm boot --kernel vmlinuz --initrd initrd.img --disk path=data.img,serial=data,iops=500 --disk path=base.qcow2,format=qcow2,ro
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --net user,hostfwd=tcp:127.0.0.1:2222-:22
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --net tap=tap0,queues=2 --cpus 2
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --share path=src,tag=src,ro --vsock cid=3,uds=vm.vsock
  vmm boot --kernel vmlinuz --initrd initrd.img --rootfs debian.img --balloon size=128M,free-page-reporting --control vm.sock
  vmm boot --kernel vmlinuz --initrd initrd.cpio --trace boot.jsonl --trace-format jsonl
  vmm boot --kernel vmlinuz --initrd initrd.cpio --gdb vm.gdb --wait-gdb
  vmm boot --kernel vmlinuz --initrd initrd.cpio --web 127.0.0.1:8080
  vmm boot --kernel vmlinuz --initrd initrd.cpio --timeline boot.json --ready console:login
  vmm boot --kernel vmlinux --boot-protocol pvh --timeout 30s </dev/null >boot.log
  vmm boot --kernel xen.gz --module path=vmlinuz,args="console=hvc0 root=/dev/vda" --module path=initrd.img --append "dom0_mem=512M com1=115200 console=com1" --disk path=debian.img
  vmm boot --kernel apic.flat --append "-smp 1" --debug-exit
  vmm boot --kernel vmlinuz --initrd initrd.cpio --cpus 2 --print-config >vmm.toml && vmm boot --config vmm.toml`,
		Args: cli.Usage(f.args),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := f.file.apply(cmd.Flags())
			if err != nil {
				return cli.UsageError{Err: err}
			}
			if f.file.print {
				return writeConfig(cmd.OutOrStdout(), cmd.Flags(), file, os.Args[1:], strings.Join(args, ""))
			}
			if f.web != "" {
				return explore(f.web, cmd.Flags(), os.Args[1:])
			}
			ownCmdline := cmd.Flags().Changed("cmdline")
			return f.run(func() (machine.Config, error) { return f.config(ownCmdline) })
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.kernel, "kernel", "", "kernel `file`: a bzImage, an ELF kernel such as vmlinux, or a Multiboot kernel;\nit may be compressed (default /boot/vmlinuz of the running kernel)")
	fl.StringVar(&f.initrd, "initrd", "", "initial RAM disk `file`; of a Multiboot kernel the first module")
	fl.Var(&listFlag[machine.Module]{&f.modules, parseModule, "module"}, "module", "give a Multiboot or PVH kernel a further file: path=FILE[,args=WORDS]; may be repeated")
	fl.StringVar(&f.cmdline, "cmdline", machine.DefaultCmdline, "kernel command `line`, instead of the default; {virtio_mmio} in it stands for\nthe devices of --transport mmio, as virtio_mmio.device=... words")
	fl.Var(&f.append, "append", "`words` to add to the kernel command line; may be repeated")
	fl.Var(&f.memory, "memory", "`size` of RAM, with K, M, G or T")
	fl.IntVar(&f.cpus, "cpus", 1, "`number` of processors")
	fl.BoolVar(&f.nested, "nested", false, "let the guest run virtual machines of its own, where the host's KVM can")
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
	fl.Var(&listFlag[machine.Net]{&f.nets, parseNet, "net"}, "net", "add a network card: user[,hostfwd=tcp:127.0.0.1:8080-:80]...[,loopback[=PORTS]]...\n[,allow=ADDRESSES]... for a network of its own, which leads neither to the host itself, but at the ports given\nwith loopback, nor to private networks but those given with allow=192.168.1.0/24;\nor tap=NAME[,queues=N][,create] for a tap device of the host, which create makes if it does not exist; [,mac=ADDRESS][,mtu=BYTES][,pcap=FILE]; may be repeated")
	fl.Var(&listFlag[machine.Share]{&f.shares, parseShare, "share"}, "share", "share a folder: path=DIR,tag=NAME[,ro]; in the guest: mount -t 9p -o trans=virtio NAME /mnt;\nfile systems that are mounted below DIR belong to it; may be repeated")
	fl.Var(&deviceFlag[vsock.Config]{&f.vsock, parseVsock, "vsock"}, "vsock", "connect programs of guest and host: cid=N,uds=PATH; a host's program connects to the unix\nsocket PATH and says \"CONNECT port\", and listens at PATH_port for the guest's")
	fl.Var(&deviceFlag[balloon.Config]{&f.balloon, parseBalloon, "balloon"}, "balloon", "let the guest lend memory back: [size=SIZE][,free-page-reporting]")
	fl.Lookup("balloon").NoOptDefVal = " "
	fl.Var(&cli.Choice[consoleKind]{Value: &f.console, Values: []consoleKind{consoleSerial, consoleVirtio}},
		"console", "the guest's console: serial (ttyS0) or virtio (hvc0, beside the serial port)")
	fl.StringVar(&f.control, "control", "", "`path` of a unix socket for 'vmm ctl'; adds a keyboard, for 'vmm ctl PATH reboot'")
	fl.BoolVar(&f.paused, "paused", false, "hold the guest's first instruction until 'vmm ctl' or the web page has it go on")
	fl.StringVar(&f.web, "web", "", "`address` of a web page on the machine, such as 127.0.0.1:8080: see 'vmm explore'")
	fl.BoolVar(&f.rng, "rng", true, "add a source of random numbers")
	fl.Var(&cli.Choice[machine.Transport]{Value: &f.transport, Values: []machine.Transport{machine.TransportAuto, machine.TransportMMIO, machine.TransportPCI}},
		"transport", "how the guest reaches virtio devices: auto, mmio or pci")
	fl.Var(&f.debugExit, "debug-exit", "let the guest end the machine, and set the exit status, through a `port`;\nwithout a value 0xf4; QEMU's default is 0x501")
	fl.Lookup("debug-exit").NoOptDefVal = fmt.Sprintf("%#x", machine.DefaultDebugExitPort)
	f.addSandbox(fl)
	fl.DurationVar(&f.timeout, "timeout", 0, "end the machine after this `time`, such as 30s (default never)")
	f.trace.register(fl)
	f.gdb.register(fl)
	f.timing.add(cmd)
	f.file.register(fl)
	fl.BoolVar(&f.json, "json", false, "say how the machine ended as JSON on standard error")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log what vmm does on standard error")
	cli.GroupFlags(cmd,
		cli.FlagGroup{Title: "Kernel:", Flags: []string{"kernel", "initrd", "module", "cmdline", "append", "boot-protocol", "kaslr", "no-cache", "share-kernel"}},
		cli.FlagGroup{Title: "Processors and memory:", Flags: []string{"memory", "cpus", "nested", "hugepages", "thp", "prefault"}},
		cli.FlagGroup{Title: "Devices:", Flags: []string{"rootfs", "disk", "net", "share", "vsock", "balloon", "console", "rng", "transport", "debug-exit", "boot-timer"}},
		cli.FlagGroup{Title: "Control:", Flags: []string{"control", "paused", "web", "sandbox", "timeout", "config", "print-config"}},
		cli.FlagGroup{Title: "Watching and debugging:", Flags: []string{"trace", "trace-format", "trace-filter", "trace-doorbells", "timeline",
			"ready", "profile", "profile-rate", "gdb", "wait-gdb", "gdb-any-address", "json", "verbose"}})
	return cmd
}

func (f *bootFlags) addSandbox(fl *pflag.FlagSet) {
	fl.Var(&cli.Choice[sandbox.Mode]{Value: &f.sandbox, Values: []sandbox.Mode{sandbox.Auto, sandbox.Strict, sandbox.Off}},
		"sandbox", "keep a guest that breaks into vmm from doing anything else there: auto (as far as this host can),\nstrict (all of it, or no start) or off")
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

// debugExitFlag is the port of --debug-exit.
type debugExitFlag struct {
	on   bool
	port uint16
}

func (d *debugExitFlag) Type() string { return "port" }
func (d *debugExitFlag) String() string {
	if !d.on {
		return ""
	}
	return fmt.Sprintf("%#x", d.port)
}

func (d *debugExitFlag) Set(v string) error {
	port, err := strconv.ParseUint(v, 0, 16)
	if on, boolErr := strconv.ParseBool(v); err != nil && boolErr == nil { // --debug-exit=true
		*d = debugExitFlag{on: on, port: machine.DefaultDebugExitPort}
		return nil
	}
	if err != nil || port > machine.MaxDebugExitPort {
		return fmt.Errorf("choose a port from 0 to %#x", machine.MaxDebugExitPort)
	}
	*d = debugExitFlag{on: true, port: uint16(port)}
	return nil
}

// tellApart gives an error of vmm's own a status that no guest can set.
func (d *debugExitFlag) tellApart(err error) error {
	if usage := new(cli.UsageError); d.on && !errors.As(err, usage) {
		return cli.StatusError{Err: err, Status: besideGuestFailed}
	}
	return err
}

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
