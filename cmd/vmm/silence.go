package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"vmm/machine"
)

// silence is what to look at when a guest has written nothing to its console: what
// it did last, and what that may mean.
type silence struct {
	machine.Last
	// Hints are what to look at, in words.
	Hints []string `json:"hints"`
}

// newSilence is nil for a guest that has written something, or that has ended as a
// guest does that has nothing to say.
func newSilence(m *machine.Machine, r *report) *silence {
	switch r.Outcome {
	case "power-off", "reset", "debug-exit", "error":
		return nil
	}
	if m.Heard() > 0 {
		return nil
	}
	s := &silence{Last: m.Last()}
	if len(s.CPUs) > 0 {
		s.Hints = hints(s.Last, r, m.Linux(), m.Cmdline())
	}
	return s
}

// Ports that guests write to for other monitors' sake.
const (
	portQEMUExit = 0x501
	portOurExit  = 0xf4

	portDebugConsole = 0xe9
)

// hints are what a silent guest's last acts may mean.
func hints(last machine.Last, r *report, linux bool, cmdline string) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if r.Crash != nil && strings.Contains(r.Crash.Reason, "triple fault") {
		add("a triple fault before the first output: was the kernel made for this way to enter it (--boot-protocol, 'vmm inspect kernel'), and for this much --memory?")
	}
	if linux && !strings.Contains(cmdline, "console=") && !strings.Contains(cmdline, "earlyprintk=") {
		add("Linux writes nothing without console=ttyS0 on its command line, and earlier with earlyprintk=ttyS0")
	}
	if len(last.Warnings) > 0 {
		add("a device's warning above may be what the guest waits for in vain")
	}
	for _, u := range last.Unclaimed {
		if u.Port && u.Write && (u.Addr == portQEMUExit || u.Addr == portOurExit) {
			add("port %#x is where QEMU's guests end their machine: see --debug-exit", uint64(u.Addr))
		}
		if u.Port && u.Write && u.Addr == portDebugConsole {
			add("port %#x is the debug console of Bochs and QEMU, which this machine does not have: have the kernel use COM1", uint64(u.Addr))
		}
	}
	if len(last.Screen) > 0 {
		add("it writes to a PC's screen, which this machine does not have: have the kernel use COM1")
	}
	boot := last.CPUs[0]
	switch {
	case boot.State == machine.StateDead:
		add("the boot processor has halted for good: the kernel gave up")
	case boot.State == machine.StateHalted:
		add("the boot processor waits for an interrupt: the kernel runs, and speaks through something else than the serial port, or waits for a device")
	case len(boot.Accesses) == 0 && r.Crash == nil:
		add("the kernel has not asked for any device yet: look where it is with --gdb and --wait-gdb, or what it does with --trace")
	case r.Crash == nil:
		add("--trace FILE shows every exit, and --gdb ADDRESS where the kernel is")
	}
	return all
}

// print writes the closing lines for a person.
func (s *silence) print(w io.Writer) {
	fmt.Fprintln(w, "vmm: the guest has written nothing to its console; what it did last:")
	for _, c := range s.CPUs {
		fmt.Fprintf(w, "  vCPU %d: %s", c.CPU, c.State)
		if c.Mode != 0 {
			fmt.Fprintf(w, ", %d-bit code at %#x: %s", c.Mode, uint64(c.RIP), cmp.Or(c.Insn, "no instruction"))
		}
		fmt.Fprintf(w, "; %d exits\n", c.Exits)
		writeList(w, "    last: ", c.Accesses)
	}
	var unclaimed []string
	for _, u := range s.Unclaimed {
		text := u.Access
		if u.Count > 1 {
			text += fmt.Sprintf(", %d times", u.Count)
		}
		unclaimed = append(unclaimed, text)
	}
	writeList(w, "  no device answered: ", unclaimed)
	for _, row := range s.Screen {
		fmt.Fprintf(w, "  on the screen: %s\n", row)
	}
	writeList(w, "  warnings: ", s.Warnings)
	for _, h := range s.Hints {
		fmt.Fprintf(w, "vmm: %s\n", h)
	}
}

// writeList writes items behind a label, unless there are none.
func writeList(w io.Writer, label string, items []string) {
	if len(items) > 0 {
		fmt.Fprintf(w, "%s%s\n", label, strings.Join(items, "; "))
	}
}
