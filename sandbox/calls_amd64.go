package sandbox

import "golang.org/x/sys/unix"

//go:generate go run mknames.go

// Group is a set of things that a process does, each with the system calls for it.
type Group uint

// What a process does.
const (
	// Machine runs a virtual machine, with a serial port that leads to a terminal
	// or to pipes.
	Machine Group = 1 << iota
	// Disk reads and writes images that are open.
	Disk
	// Tap moves frames from and to tap devices that are open.
	Tap
	// UserNetwork moves frames from and to a process that was started before, and
	// waits for its end.
	UserNetwork
	// Share looks for files, opens and changes them.
	Share
	// Serve takes connections at sockets that listen.
	Serve
	// Remove removes files, in some folders.
	Remove
	// Broker has connections made by a process that was started before, and waits for
	// its end.
	Broker
	// Dial connects to unix sockets, and hands the connections over.
	Dial
	// DialTCP connects to TCP ports.
	DialTCP
	// Network makes a guest's connections: TCP, UDP and name service.
	Network
	// Save writes the machine to files that a client of the control socket has
	// opened.
	Save

	always Group = 0
)

// rules are the system calls that a process may make in its cage. One that is not
// here, or is here with other arguments, ends the process.
//
// The list comes from tests that run each feature under the filter, and what a test
// needs is in it with its reason. A rule with checks holds when all of them do;
// several rules for one call, when one of them does.
//
// KVM_RUN is first: it is made most often.
var rules = []rule{
	// A virtual machine.
	{Machine, unix.SYS_IOCTL, arg(1, kvmRequests), "the virtual machine: KVM's requests"},
	{Machine, unix.SYS_IOCTL, arg(1, terminalRequests), "the terminal: its size, and its mode at the end"},
	{Machine, unix.SYS_PPOLL, nil, "the console waits for its reader, and for what is typed"},
	{Machine, unix.SYS_READV, nil, "devices read into the guest's memory"},
	{Machine, unix.SYS_WRITEV, nil, "devices write from the guest's memory"},

	// Every Go program: threads, memory, time, files that are open.
	{always, unix.SYS_FUTEX, nil, "threads wait for each other"},
	{always, unix.SYS_READ, nil, "files, pipes, sockets and eventfds that are open"},
	{always, unix.SYS_WRITE, nil, "the same; messages"},
	{always, unix.SYS_CLOSE, nil, "files that are not needed any more"},
	{always, unix.SYS_PREAD64, nil, "Go reads its processor limits anew from a file that it keeps open; state of this process"},
	{always, unix.SYS_FCNTL, arg(1, descriptorCommands), "flags of descriptors, and duplicates"},
	{always, unix.SYS_EPOLL_PWAIT, nil, "waits for sockets, pipes and eventfds"},
	{always, unix.SYS_EPOLL_CTL, nil, "the same"},
	{always, unix.SYS_EVENTFD2, nil, "doorbells and interrupts of devices, when a driver starts them"},
	{always, unix.SYS_NANOSLEEP, nil, "pauses of Go's runtime"},
	{always, unix.SYS_CLOCK_GETTIME, nil, "the time, on hosts whose clock cannot be read without the kernel"},
	{always, unix.SYS_SCHED_YIELD, nil, "Go's runtime lets other threads go first"},
	{always, unix.SYS_SCHED_GETAFFINITY, nil, "Go's runtime counts its processors anew"},
	{always, unix.SYS_RESTART_SYSCALL, nil, "the kernel goes on with a wait after SIGCONT"},
	{always, unix.SYS_GETRANDOM, nil, "random numbers for the guest and for Go's maps"},
	{always, unix.SYS_MMAP, without(2, unix.PROT_EXEC), "memory; never for code"},
	{always, unix.SYS_MUNMAP, nil, "memory that is not needed any more"},
	{always, unix.SYS_MADVISE, nil, "memory goes back to the host: Go's, and the balloon's"},
	{always, unix.SYS_PRCTL, arg(0, list{{unix.PR_SET_VMA, "PR_SET_VMA"}}), "Go's runtime gives its memory a name"},
	{always, unix.SYS_CLONE, is(0, ^uint32(unix.CLONE_SETTLS), goThread, "a thread of Go's"), "threads; no process"},
	{always, unix.SYS_GETTID, nil, "a thread asks for its number"},
	{always, unix.SYS_GETPID, nil, "Go's runtime, when it signals a thread"},
	{always, unix.SYS_TGKILL, is(0, ^uint32(0), ownProcess, "this process"), "a thread interrupts another, out of the guest too"},
	{always, unix.SYS_RT_SIGPROCMASK, nil, "a thread starts or ends"},
	{always, unix.SYS_SIGALTSTACK, nil, "the same"},
	{always, unix.SYS_RT_SIGACTION, nil, "signals that are not listened to any more"},
	{always, unix.SYS_RT_SIGRETURN, nil, "the way out of a signal's handler"},
	{always, unix.SYS_EXIT, nil, "a thread ends"},
	{always, unix.SYS_EXIT_GROUP, nil, "the process ends"},

	{Disk, unix.SYS_PREADV2, nil, "reads"},
	{Disk, unix.SYS_PWRITEV2, nil, "writes"},
	{Disk, unix.SYS_FDATASYNC, nil, "flushes"},
	{Disk, unix.SYS_FALLOCATE, nil, "discards and zeroes"},
	{Disk, unix.SYS_UTIMENSAT, zero(1, "an open file's"), "times of an image, ahead of writes through io_uring"},
	{Disk, unix.SYS_IO_URING_ENTER, nil, "reads and writes under way together, through rings that were made before and take no other request"},

	{Tap, unix.SYS_IOCTL, arg(1, tapRequests), "the guest's driver chooses offloads and the number of queues"},

	{UserNetwork | Broker, unix.SYS_WAITID, nil, "a process that was started before has ended"},
	{UserNetwork | Broker, unix.SYS_PIDFD_SEND_SIGNAL, nil, "it does not end: the descriptor is that of a process of ours"},

	{Serve, unix.SYS_ACCEPT4, nil, "clients of the control socket, of gdb and of vsock"},
	{Serve | Broker | DialTCP | Network, unix.SYS_GETSOCKNAME, nil, "Go asks for the addresses of a new connection"},
	{Serve | Broker | DialTCP | Network, unix.SYS_GETPEERNAME, nil, "the same"},
	{Serve | Broker | DialTCP | Network, unix.SYS_GETSOCKOPT, nil, "the user at the other end; how connecting went"},
	{Serve | Broker | DialTCP | Network, unix.SYS_SETSOCKOPT, nil, "gdb's connections over TCP do not wait to send; timeouts"},
	{Serve | Broker | DialTCP | Network, unix.SYS_SHUTDOWN, nil, "one direction of a connection ends"},
	{Remove, unix.SYS_UNLINKAT, is(2, ^uint32(0), 0, "no folder"), "sockets are removed; Landlock says where"},

	{Dial, unix.SYS_SOCKET, socketOf(unix.AF_UNIX, unix.SOCK_STREAM, "AF_UNIX, SOCK_STREAM"), "the guest's connections to programs of the host, through vsock"},
	{Dial, unix.SYS_SENDMSG, nil, "a connection is handed over"},
	{Broker, unix.SYS_RECVMSG, nil, "and taken"},
	{DialTCP | Network, unix.SYS_SOCKET, socketOf(unix.AF_INET, unix.SOCK_STREAM, "AF_INET, SOCK_STREAM"), "connections; Landlock says to which ports"},
	{DialTCP | Network, unix.SYS_SOCKET, socketOf(unix.AF_INET6, unix.SOCK_STREAM, "AF_INET6, SOCK_STREAM"), "the same"},
	{Dial | DialTCP | Network, unix.SYS_CONNECT, nil, "the same"},

	{Share, unix.SYS_OPENAT, nil, "a guest opens a file; Landlock says where"},
	{Share, unix.SYS_OPENAT2, nil, "a guest looks for a name in a folder"},
	{Share, unix.SYS_NEWFSTATAT, nil, "attributes of a file"},
	{Share, unix.SYS_FSTAT, nil, "the same"},
	{Share, unix.SYS_FSTATFS, nil, "what kind of file system a file is in, and its room"},
	{Share, unix.SYS_READLINKAT, nil, "where a symbolic link leads"},
	{Share, unix.SYS_GETDENTS64, nil, "what is in a folder"},
	{Share, unix.SYS_LSEEK, nil, "the place in a folder"},
	{Share, unix.SYS_PREADV, nil, "reads"},
	{Share, unix.SYS_PWRITEV, nil, "writes"},
	{Share, unix.SYS_FSYNC, nil, "a guest makes a file permanent"},
	{Share, unix.SYS_FDATASYNC, nil, "the same, but for its attributes"},
	{Share, unix.SYS_FTRUNCATE, nil, "the size of a file"},
	{Share, unix.SYS_TRUNCATE, nil, "the same"},
	{Share, unix.SYS_MKDIRAT, nil, "a guest makes a folder"},
	{Share, unix.SYS_SYMLINKAT, nil, "a guest makes a symbolic link"},
	{Share, unix.SYS_LINKAT, nil, "a guest gives a file another name"},
	{Share, unix.SYS_MKNODAT, notDevice, "a guest makes a pipe or a socket; never a device"},
	{Share, unix.SYS_RENAMEAT, nil, "a guest renames a file"},
	{Share, unix.SYS_RENAMEAT2, nil, "the same"},
	{Share, unix.SYS_UNLINKAT, nil, "a guest removes a file or a folder"},
	{Share, unix.SYS_FCHMOD, nil, "permissions"},
	{Share, unix.SYS_FCHMODAT, nil, "the same"},
	{Share, unix.SYS_FCHOWNAT, nil, "owners"},
	{Share, unix.SYS_UTIMENSAT, nil, "times"},
	{Share, unix.SYS_FCNTL, arg(1, lockCommands), "locks of open files, and duplicates"},
	{Share, unix.SYS_GETXATTR, nil, "extended attributes"},
	{Share, unix.SYS_SETXATTR, nil, "the same"},
	{Share, unix.SYS_LISTXATTR, nil, "the same"},
	{Share, unix.SYS_REMOVEXATTR, nil, "the same"},

	{Network, unix.SYS_SOCKET, socketOf(unix.AF_INET, unix.SOCK_DGRAM, "AF_INET, SOCK_DGRAM"), "the guest's UDP, and name service"},
	{Network, unix.SYS_SOCKET, socketOf(unix.AF_INET6, unix.SOCK_DGRAM, "AF_INET6, SOCK_DGRAM"), "the same"},
	{Network, unix.SYS_SOCKET, socketOf(unix.AF_NETLINK, unix.SOCK_RAW, "AF_NETLINK, SOCK_RAW"), "which way the host's routes lead"},
	{Network, unix.SYS_PPOLL, nil, "is a datagram there?"},
	{Network, unix.SYS_READV, nil, "frames of the guest"},
	{Network, unix.SYS_WRITEV, nil, "frames for the guest"},
	{Network, unix.SYS_ACCEPT4, nil, "connections to a forwarded port"},
	{Network, unix.SYS_RECVFROM, nil, "datagrams, and answers of netlink"},
	{Network, unix.SYS_RECVMSG, nil, "datagrams"},
	{Network, unix.SYS_SENDTO, nil, "datagrams, and questions to netlink"},
	{Network, unix.SYS_SENDMSG, nil, "datagrams"},
	{Network, unix.SYS_OPENAT, is(2, unix.O_ACCMODE|unix.O_CREAT|unix.O_TRUNC, unix.O_RDONLY, "for reading"), "the files of the host's name service; Landlock says which"},
	{Network, unix.SYS_FSTAT, nil, "the same"},
	{Network, unix.SYS_NEWFSTATAT, nil, "have they changed?"},
	{Network, unix.SYS_UNAME, nil, "Go asks which options of sockets this kernel has"},
	{Network, unix.SYS_BIND, nil, "UDP of the guest, and netlink"},

	{Save, unix.SYS_RECVMSG, nil, "a request that comes with files"},
	{Save, unix.SYS_FTRUNCATE, nil, "the memory's size"},
	{Save, unix.SYS_PWRITE64, nil, "the memory"},
	{Save, unix.SYS_LSEEK, nil, "where the file is empty that the memory was restored from"},
	{Save, unix.SYS_FSTAT, nil, "what the images of disks are like"},
}

// Flags of clone(2) with which Go's runtime starts a thread: CLONE_VM, FS, FILES,
// SIGHAND, SYSVSEM and THREAD, and on some architectures SETTLS. runtime/os_linux.go.
const goThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// kvmRequests are the requests to KVM of a machine that runs. Those that make one
// are not among them, but for what measures the host beside a silent guest.
// <linux/kvm.h>
var kvmRequests = list{
	{0xae80, "KVM_RUN"},
	{0x4008ae61, "KVM_IRQ_LINE"},   // of devices of the board
	{0x4020aea5, "KVM_SIGNAL_MSI"}, // of devices of the PCI bus

	// What a driver of a PCI device sets up: interrupts and doorbells.
	{0x4008ae6a, "KVM_SET_GSI_ROUTING"},
	{0x4020ae76, "KVM_IRQFD"},
	{0x4040ae79, "KVM_IOEVENTFD"},

	// A timer that is made when a guest reaches for it.
	{0x4040ae77, "KVM_CREATE_PIT2"},
	{0x8070ae9f, "KVM_GET_PIT2"},
	{0x4070aea0, "KVM_SET_PIT2"},

	// The state of a processor: crashes, gdb, 'vmm inspect', traces.
	{0x8090ae81, "KVM_GET_REGS"},
	{0x4090ae82, "KVM_SET_REGS"},
	{0x8138ae83, "KVM_GET_SREGS"},
	{0x4138ae84, "KVM_SET_SREGS"},
	{0xc018ae85, "KVM_TRANSLATE"},
	{0xc008ae88, "KVM_GET_MSRS"},
	{0x4008ae89, "KVM_SET_MSRS"},
	{0x81a0ae8c, "KVM_GET_FPU"},
	{0x41a0ae8d, "KVM_SET_FPU"},
	{0x8400ae8e, "KVM_GET_LAPIC"},
	{0x4400ae8f, "KVM_SET_LAPIC"},
	{0xc008ae91, "KVM_GET_CPUID2"},
	{0x8004ae98, "KVM_GET_MP_STATE"},
	{0x4004ae99, "KVM_SET_MP_STATE"},
	{0x0000ae9a, "KVM_NMI"},
	{0x4048ae9b, "KVM_SET_GUEST_DEBUG"},
	{0x8040ae9f, "KVM_GET_VCPU_EVENTS"},
	{0x4040aea0, "KVM_SET_VCPU_EVENTS"},
	{0x8080aea1, "KVM_GET_DEBUGREGS"},
	{0x4080aea2, "KVM_SET_DEBUGREGS"},
	{0x0000aea3, "KVM_GET_TSC_KHZ"},
	{0x9000aea4, "KVM_GET_XSAVE"},
	{0x5000aea5, "KVM_SET_XSAVE"},
	{0x9000aecf, "KVM_GET_XSAVE2"},
	{0x8188aea6, "KVM_GET_XCRS"},
	{0x4188aea7, "KVM_SET_XCRS"},
	{0x0000aead, "KVM_KVMCLOCK_CTRL"},

	// The state of the board.
	{0xc208ae62, "KVM_GET_IRQCHIP"},
	{0x8208ae63, "KVM_SET_IRQCHIP"},
	{0x8030ae7c, "KVM_GET_CLOCK"},
	{0x4030ae7b, "KVM_SET_CLOCK"},
	{0x4010ae42, "KVM_GET_DIRTY_LOG"},
	{0x4020ae46, "KVM_SET_USER_MEMORY_REGION"}, // at the end, too
	{0x0000ae03, "KVM_CHECK_EXTENSION"},

	// A tiny guest, beside one that is silent or has crashed: does this host
	// interpret? See package doctor.
	{0x0000ae00, "KVM_GET_API_VERSION"},
	{0x0000ae01, "KVM_CREATE_VM"},
	{0x0000ae04, "KVM_GET_VCPU_MMAP_SIZE"},
	{0x0000ae41, "KVM_CREATE_VCPU"},
	{0x0000ae47, "KVM_SET_TSS_ADDR"},
	{0xc008ae05, "KVM_GET_SUPPORTED_CPUID"},
	{0x4008ae90, "KVM_SET_CPUID2"},
}

var terminalRequests = list{
	{unix.TCGETS, "TCGETS"},
	{unix.TCSETS, "TCSETS"},
	{unix.TIOCGWINSZ, "TIOCGWINSZ"},
}

var tapRequests = list{
	{unix.TUNSETOFFLOAD, "TUNSETOFFLOAD"},
	{unix.TUNSETQUEUE, "TUNSETQUEUE"},
}

var descriptorCommands = list{
	{unix.F_GETFL, "F_GETFL"},
	{unix.F_SETFL, "F_SETFL"},
	{unix.F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"},
}

var lockCommands = list{
	{unix.F_OFD_SETLK, "F_OFD_SETLK"},
	{unix.F_OFD_GETLK, "F_OFD_GETLK"},
}

// notDevice are the kinds of files that mknodat(2) may make.
var notDevice = checks{{arg: 2, mask: unix.S_IFMT, any: list{{0, "regular"}, {unix.S_IFREG, "regular"}, {unix.S_IFIFO, "pipe"}, {unix.S_IFSOCK, "socket"}}}}

// socketOf are arguments of socket(2), with the flags that Go sets.
func socketOf(family, kind uint32, name string) checks {
	return checks{
		{arg: 0, mask: ^uint32(0), any: list{{family, name}}},
		{arg: 1, mask: ^uint32(unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK), any: list{{kind, ""}}},
	}
}
