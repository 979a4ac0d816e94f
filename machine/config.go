package machine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/devices/debugexit"
	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/vsock"
	"vmm/disk"
	"vmm/memory"
	"vmm/netdev"
	"vmm/profile"
	"vmm/timeline"
)

// Config describes a machine. The zero value of a field is its default where
// one is given.
type Config struct {
	// Kernel is the path of the kernel image.
	Kernel string
	// Initrd is the path of the initial RAM disk; "" for none.
	Initrd string
	// Modules are further files for a Multiboot or PVH kernel.
	Modules []Module
	// Cmdline is the kernel's command line; nil for DefaultCmdline.
	Cmdline *string
	// Append is added to the command line.
	Append string
	// Protocol is how the kernel is entered.
	Protocol boot.Protocol
	// KASLR says whether the kernel's addresses are chosen at random.
	KASLR boot.KASLR
	// Memory is the size of RAM in bytes, a multiple of memory.PageSize.
	Memory uint64
	// HugePages takes RAM from the host's pool of 2 MiB pages.
	HugePages bool
	// TransparentHugePages says whether other RAM may be in huge pages; "" leaves
	// it to the host, or to ShareKernel, with which it may not: a huge page is
	// shared with nobody.
	TransparentHugePages memory.Transparent
	// Prefault takes all of RAM from the host before the machine starts.
	Prefault bool
	// Cache is the folder that keeps unpacked kernels; "" for none. It is made
	// if it has to be.
	Cache string
	// ShareKernel maps kernel and initrd instead of copying them, so that
	// machines that run at the same time share what they do not change. It needs
	// a cache, and RAM that is not HugePages.
	ShareKernel bool
	// CPUs is the number of processors, 1 to MaxCPUs.
	CPUs int
	// Nested lets the guest run virtual machines of its own, where the host's KVM
	// has that. It is off by default: it opens a large part of the host's KVM to
	// the guest.
	Nested bool
	// Disks are the disks, in the order in which the guest finds them.
	Disks []Disk
	// Nets are the network cards.
	Nets []Net
	// Shares are folders of the host.
	Shares []Share
	// Vsock connects programs of the guest with programs of the host; nil for
	// not.
	Vsock *vsock.Config
	// Balloon lets the guest lend memory back to the host; nil for not.
	Balloon *balloon.Config
	// VirtioConsole adds a virtio console, which then is the machine's
	// console. What the guest writes to its serial port is seen too.
	VirtioConsole bool
	// Keyboard adds a PC's keyboard, at which CtrlAltDel presses keys.
	Keyboard bool
	// RNG adds a source of random numbers.
	RNG bool
	// Transport is how the guest reaches virtio devices.
	Transport Transport
	// DebugExit adds a port whose write ends the machine with a value.
	DebugExit bool
	// DebugExitPort is that port, at most MaxDebugExitPort; 0 for
	// DefaultDebugExitPort.
	DebugExitPort uint16
	// DoorbellExits has the doorbells of virtio devices come to vmm as exits,
	// where a trace sees them, and not be answered by KVM.
	DoorbellExits bool
	// BootTimer adds Firecracker's boot timer, of which the timeline is told.
	BootTimer bool
	// Timeline records the start; nil for not. Its recorder's console is not
	// put before Console: who makes the one makes the other.
	Timeline *timeline.Recorder
	// Profile takes samples of where the processors are; nil for not.
	Profile *Profile
	// Saved is a machine to go on with, instead of one to boot: Config is then what
	// [Saved.Config] returned, and Kernel and what belongs to it are not used. RAM is
	// the file with its memory; it stays open until Close.
	Saved *Saved
	RAM   *os.File
	// Console receives what the guest writes to its serial port and virtio
	// console. Its Write may block: the guest waits.
	Console io.Writer
	// Log receives what the machine does; nil for nothing.
	Log *slog.Logger
}

// Profile is where a machine's samples go, and how many there are a second.
type Profile struct {
	*profile.Profile
	Rate int
}

// Transport is how a guest finds and reaches virtio devices.
type Transport string

// The transports.
const (
	// TransportAuto is TransportPCI: every distribution's initrd has its
	// driver, and an interrupt costs no exit.
	TransportAuto Transport = "auto"
	// TransportMMIO needs no bus to be searched, but two exits for an
	// interrupt.
	TransportMMIO Transport = "mmio"
	TransportPCI  Transport = "pci"
)

// Disk is a disk of a machine: an image on the host, and how the guest sees it.
type Disk struct {
	disk.Config
	// Serial is the serial number, at most 20 bytes.
	Serial string
	// Queues is the number of queues; 0 for one.
	Queues int
	// IOPS and Bandwidth limit the requests and bytes a second; 0 for no
	// limit.
	IOPS, Bandwidth int
}

// Net is a network card of a machine, connected to a tap device of the host or,
// with User, to a network of its own.
type Net struct {
	Tap string
	// CreateTap makes the tap device if it does not exist.
	CreateTap bool
	User      bool
	netdev.UserConfig
	// MAC is the card's address; nil for a random one.
	MAC net.HardwareAddr
	// Queues is the number of pairs of queues, of a tap; 0 for one.
	Queues int
	// MTU is the largest packet that the guest is told of; 0 to tell it nothing.
	MTU int
	// Pcap is a file in which to record the frames; "" for none.
	Pcap string
}

// Share is a folder of the host that the guest can mount.
type Share struct {
	Path     string
	Tag      string // what the guest mounts
	ReadOnly bool
}

// MaxCPUs is the largest number of processors of a machine.
const MaxCPUs = 64

// Where the debug-exit port can be. It is four bytes wide.
const (
	DefaultDebugExitPort = 0xf4
	MaxDebugExitPort     = 0x1_0000 - debugexit.Size
)

// DefaultCmdline is the command line for the devices that every machine has: the
// serial port as console, and an immediate reset on a panic. A machine with a
// virtio console has hvc0 for ttyS0 in it, and what the kernel has to say before
// it has the driver goes to the serial port.
//
// panic_warm makes Linux set the PC's warm-reset flag when a panic resets the
// machine, and only then. It is how a panic is told from a reboot before the
// pvpanic driver is there, or without it.
const DefaultCmdline = "console=ttyS0 panic=-1 reboot=panic_warm"

// cmdline is the command line as a guest gets it that is entered by the given
// protocol.
func (c *Config) cmdline(p boot.Protocol) string {
	line := DefaultCmdline
	switch {
	case c.Cmdline != nil:
		line = *c.Cmdline
	case p == boot.Multiboot:
		line = "" // the words are Linux's
	case c.VirtioConsole:
		line = strings.Replace(line, "console=ttyS0", "earlyprintk=ttyS0 console=hvc0", 1)
	}
	return strings.TrimSpace(line + " " + c.Append)
}

// Validate checks what can be checked without opening anything.
func (c *Config) Validate() error {
	if c.CPUs < 1 || c.CPUs > MaxCPUs {
		return fmt.Errorf("%d CPUs: choose between 1 and %d", c.CPUs, MaxCPUs)
	}
	if c.ShareKernel && (c.HugePages || c.Cache == "") {
		return errors.New("kernel pages cannot be shared without a cache, or in RAM of huge pages; drop --share-kernel, --no-cache or --hugepages")
	}
	for i, s := range c.Shares {
		if slices.ContainsFunc(c.Shares[:i], func(o Share) bool { return o.Tag == s.Tag }) {
			return fmt.Errorf("share %s: another has the tag %q, too, and the guest could mount only one; choose another", s.Path, s.Tag)
		}
	}
	if err := c.validateMemory(); err != nil {
		return err
	}
	if c.Balloon != nil && c.Balloon.Size > c.Memory {
		return errBalloon(c.Balloon.Size, c.Memory)
	}
	return nil
}

func (c *Config) validateMemory() error {
	page := uint64(memory.PageSize)
	if c.HugePages {
		page = memory.HugePageSize
	}
	switch {
	case c.Memory == 0:
		return errors.New("no memory: choose a size such as 512M")
	case c.Memory < minMemory:
		return fmt.Errorf("%d bytes of memory are less than the %s that a machine needs at least; sizes have a suffix, such as 512M", c.Memory, FormatSize(minMemory))
	case c.Memory%page != 0:
		return fmt.Errorf("%d bytes of memory are not a whole number of %s pages; the next size that is: %s",
			c.Memory, FormatSize(page), FormatSize((c.Memory/page+1)*page))
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	if host := info.Totalram * uint64(info.Unit); c.Memory > host {
		return fmt.Errorf("%s of memory are more than this host has; choose at most %s", FormatSize(c.Memory), FormatSize(host>>20<<20))
	}
	return nil
}

// minMemory is the smallest machine: the first MiB, where the tables for the
// kernel lie, and as much again for a kernel.
const minMemory = 2 << 20

// sizeSuffixes are the units of sizes, as powers of 1024.
const sizeSuffixes = "KMGT"

// ParseSize reads a size in bytes, such as "512M", "1.5G" or "8G": a number and an
// optional K, M, G or T for powers of 1024. A fraction is cut to a whole number of
// the next smaller unit.
func ParseSize(s string) (uint64, error) {
	digits, shift := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I"), 0
	if n := len(digits); n > 0 {
		if i := strings.IndexByte(sizeSuffixes, digits[n-1]); i >= 0 {
			digits, shift = digits[:n-1], 10*(i+1)
		}
	}
	digits, fraction, hasFraction := strings.Cut(digits, ".")
	n, err := strconv.ParseUint(digits, 10, 64)
	var part uint64 // of a unit, in 1024ths
	if err == nil && hasFraction {
		var decimal uint64
		decimal, err = strconv.ParseUint(fraction, 10, 32)
		if shift == 0 || len(fraction) > 9 { // bytes have no parts
			err = strconv.ErrSyntax
		}
		part = decimal * 1024 / uint64(math.Pow10(len(fraction)))
	}
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("%q is not a size; write a number with K, M, G or T, such as 512M or 1.5G", s)
	}
	return n<<shift + part<<max(shift-10, 0), nil
}

// FormatSize writes a size as ParseSize reads it, in the largest unit that
// divides it.
func FormatSize(n uint64) string {
	suffix := ""
	for i := range len(sizeSuffixes) {
		if n == 0 || n%1024 != 0 {
			break
		}
		n /= 1024
		suffix = sizeSuffixes[i : i+1]
	}
	return strconv.FormatUint(n, 10) + suffix
}

// Module is a file that a kernel gets besides its initrd, with words for it.
type Module struct {
	Path string
	Args string
}

// openInitrd opens the initial RAM disk; nil where there is none.
func (c *Config) openInitrd() (*boot.Initrd, *os.File, error) {
	if c.Initrd == "" {
		return nil, nil, nil
	}
	return openInitrd("initrd", c.Initrd, "a cpio archive")
}

// openModules opens the modules, and returns what closes them.
func (c *Config) openModules() (all []boot.Module, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, m := range c.Modules {
		d, f, err := openInitrd("module", m.Path, "a file")
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		files = append(files, f)
		all = append(all, boot.Module{Initrd: *d, Args: m.Args})
	}
	return all, closeAll, nil
}

// openInitrd opens a file that the kernel gets: of what kind it is, and what it
// should be, is for messages.
func openInitrd(kind, path, what string) (*boot.Initrd, *os.File, error) {
	f, err := boot.OpenInput(path)
	var info os.FileInfo
	if err == nil {
		if info, err = f.Stat(); err != nil {
			f.Close()
		}
	}
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err // the rest is the path, which the message begins with
		}
		return nil, nil, fmt.Errorf("%s %s: %w; give %s that you can read, or no --%[1]s", kind, path, err, what)
	}
	return &boot.Initrd{Name: path, Data: f, Size: info.Size()}, f, nil
}
