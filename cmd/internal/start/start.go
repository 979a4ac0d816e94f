// Package start is what a program does first, in part before Go's runtime: what
// the host has set for this process is looked at there, for the runtime ends where
// it has too little memory, and forgets which signals are to be ignored.
// Only a program that is linked to begin there does; "go build" alone makes one
// that begins as usual, and knows less.
package start

import (
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Space is the address space that vmm takes beside a guest's RAM, in bytes: most of
// it is reserved by Go's runtime and never used. With less, the runtime may end at
// any moment.
const Space = 1792 << 20

// Data is the same of memory that can be written, in bytes: RLIMIT_DATA.
const Data = 128 << 20

// NoMemory is the exit status where there is less. It is no guest's under
// --debug-exit, and not that of wrong usage.
const NoMemory = 126

// For vmm_entry.
var (
	//lint:ignore U1000 assembly uses it
	tooLittleSpace = "vmm: the limit on this process's address space (ulimit -v) is below the 1.75 GiB that vmm takes without any guest's RAM; raise it or set none, and bound memory with a cgroup\n"
	//lint:ignore U1000 assembly uses it
	tooLittleData = "vmm: the limit on this process's data (ulimit -d) is below the 128 MiB that vmm takes without any guest's RAM; raise it or set none, and bound memory with a cgroup\n"
	ignored       uint32 // a bit for each signal
)

// lasting are the signals that the runtime takes over and would end the program by.
// (It leaves SIGHUP and SIGINT as they are.) Not among them are those that it needs,
// and SIGCHLD, without which it could not wait for a child.
var lasting = []syscall.Signal{
	syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM, syscall.SIGVTALRM,
	syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGIO, syscall.SIGPWR,
}

// Begin has signals that this process was started to ignore stay ignored, by the
// processes too that it starts. And it has the runtime, when it ends the process, do
// so by SIGABRT, whose status is not that of wrong usage.
func Begin() {
	debug.SetTraceback("crash")
	for _, s := range lasting {
		if ignored>>s&1 != 0 {
			signal.Ignore(s)
		}
	}
}
