// Package guest holds what the commands of the initramfs share: looking at the
// machine they run on, and ending it.
package guest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// PrintInfo writes what the guest sees of its machine: a line for each of
// kernel, cpus, memory and uptime.
func PrintInfo(w io.Writer) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	seconds, _, _ := strings.Cut(string(uptime), " ")
	_, err = fmt.Fprintf(w, "kernel: %s\ncpus:   %d\nmemory: %d MiB\nuptime: %s s\n",
		unix.ByteSliceToString(uts.Release[:]), runtime.NumCPU(), info.Totalram*uint64(info.Unit)>>20, seconds)
	return err
}

// PrintAddresses writes where the kernel is: the virtual address of its text,
// and the physical one.
func PrintAddresses(w io.Writer) error {
	text, err := firstWord("/proc/kallsyms", " _stext")
	if err != nil {
		return err
	}
	code, err := firstWord("/proc/iomem", " Kernel code")
	if err != nil {
		return err
	}
	start, _, _ := strings.Cut(code, "-")
	_, err = fmt.Fprintf(w, "virtual:  0x%s\nphysical: 0x%s\n", text, start)
	return err
}

// firstWord is the first word of the line of a file that ends in suffix.
func firstWord(file, suffix string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), suffix) {
			return strings.Fields(lines.Text())[0], nil
		}
	}
	return "", fmt.Errorf("%s: no line ends in %q: %w", file, suffix, lines.Err())
}

// Cmdline returns the value of a word name=value of the kernel's command line,
// "" where there is none.
func Cmdline(name string) string {
	f, err := os.Open("/proc/cmdline")
	if err != nil {
		return ""
	}
	defer f.Close()
	words := bufio.NewScanner(f)
	words.Split(bufio.ScanWords)
	for words.Scan() {
		if value, ok := strings.CutPrefix(words.Text(), name+"="); ok {
			return value
		}
	}
	return ""
}

// drain waits until what was written to the console has gone out; the end of
// the machine does not wait for it.
func drain() {
	const tcsbrk = 0x5409 // with 1: tcdrain(3)
	_ = unix.IoctlSetInt(1, tcsbrk, 1)
}

// PowerOff switches the machine off.
func PowerOff() error {
	drain()
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// Reboot resets the machine.
func Reboot() error {
	drain()
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
