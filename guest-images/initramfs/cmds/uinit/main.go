// uinit is run twice. As the first process, it loads the drivers, and makes
// way for u-root's init, which runs it again. Then it does what the word
// vmm.do=ACTION[:ARGUMENT] on the kernel's command line says; without one, it
// runs a shell.
package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"initramfs.local/guest"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("uinit: ")
	if os.Getpid() == 1 {
		log.Fatal(start())
	}
	if err := takeConsole(); err != nil {
		log.Fatal(err)
	}
	what := guest.Cmdline("vmm.do")
	if what == "" {
		log.Fatal("shell: ", shell())
	}
	name, argument, _ := strings.Cut(what, ":")
	action, ok := actions[name]
	if !ok {
		log.Fatalf("no action %q", name)
	}
	if err := action(argument); err != nil {
		log.Fatalf("%s: %v", name, err)
	}
}

// start loads the drivers, the console's among them, and becomes u-root's init,
// which needs a console from its start.
func start() error {
	modules := loadModules("/modules")
	if console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		for _, fd := range []int{0, 1, 2} {
			if err := unix.Dup2(console, fd); err != nil {
				return err
			}
		}
	}
	if modules != nil {
		log.Print(modules)
	}
	const init = "/bbin/init" // and not /init, which is this program
	return unix.Exec(init, []string{init}, os.Environ())
}

// takeConsole makes the console itself standard output and error. What init
// gives us is a pipe, of which the end of the machine would cut off the rest.
func takeConsole() error {
	console, err := unix.Open("/dev/console", unix.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("/dev/console: %w", err)
	}
	for _, fd := range []int{1, 2} {
		if err := unix.Dup2(console, fd); err != nil {
			return fmt.Errorf("/dev/console: %w", err)
		}
	}
	return unix.Close(console)
}

// shell runs a shell on the console, which init has made this process's
// terminal, and powers off after it. A serial line does not say how large the
// terminal at its other end is; 80x24 is what every terminal has.
func shell() error {
	if err := unix.IoctlSetWinsize(0, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		log.Print("window size: ", err)
	}
	sh := exec.Command("/bin/sh")
	sh.Stdin, sh.Stdout, sh.Stderr = os.Stdin, os.Stdout, os.Stderr
	var status *exec.ExitError
	if err := sh.Run(); err != nil && !errors.As(err, &status) {
		return err
	}
	return guest.PowerOff()
}

// loadModules loads the kernel's modules that a folder holds, if it is there:
// those that its file "order" lists, in the order in which they need each
// other. It goes on after one that does not load.
func loadModules(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without modules
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range strings.Fields(string(order)) {
		errs = append(errs, loadModule(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// actions are what a guest can be told to do. Each ends the machine, or says
// why it could not.
var actions = map[string]func(argument string) error{
	"info":      func(string) error { return info() },
	"addresses": func(string) error { return addresses() },
	"poweroff":  func(string) error { return guest.PowerOff() },
	"reboot":    func(string) error { return guest.Reboot() },
	"panic":     func(string) error { return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0) },
	"spin":      func(string) error { return spin() },
	"debugexit": debugExit,
	"input":     input,
	"touch":     touch,
	"serve":     serve,
	"kexec":     kexec,
	"markers":   markers,
	"kallsyms":  func(string) error { return kallsyms() },
}

func info() error {
	if err := guest.PrintInfo(os.Stdout); err != nil {
		return err
	}
	return guest.PowerOff()
}

func addresses() error {
	if err := guest.PrintAddresses(os.Stdout); err != nil {
		return err
	}
	return guest.PowerOff()
}

func spin() error {
	fmt.Println("spinning")
	for {
	}
}

func debugExit(argument string) error {
	value, err := strconv.ParseUint(argument, 0, 8)
	if err != nil {
		return err
	}
	return guest.Outb(0xf4, uint8(value))
}

// input reads a number of bytes from the console, raw, and prints their
// SHA-256.
func input(argument string) error {
	n, err := strconv.ParseInt(argument, 0, 64)
	if err != nil {
		return err
	}
	console, err := os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if _, err := term.MakeRaw(int(console.Fd())); err != nil {
		return err
	}
	fmt.Print("ready for input\r\n")
	sum := sha256.New()
	if _, err := io.CopyN(sum, console, n); err != nil {
		return err
	}
	fmt.Printf("sha256: %x\r\n", sum.Sum(nil))
	return guest.PowerOff()
}

// touch uses a number of MiB of memory, and waits.
func touch(argument string) error {
	n, err := strconv.Atoi(argument)
	if err != nil {
		return err
	}
	memory := make([]byte, n<<20)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	fmt.Printf("touched %d MiB\n", n)
	select {}
}

// markers tells whoever measures the start that it is over, in the ways that
// monitors have for that: a value written to port 0x80, and 123 written to
// Firecracker's boot timer, a byte of memory.
func markers(argument string) error {
	value, err := strconv.ParseUint(argument, 0, 8)
	if err != nil {
		return err
	}
	if err := guest.Outb(0x80, uint8(value)); err != nil {
		return err
	}
	const bootTimer, booted = 0xc000_0000, 123
	f, err := os.OpenFile("/dev/mem", os.O_RDWR|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	page, err := unix.Mmap(int(f.Fd()), bootTimer, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("/dev/mem: %w", err)
	}
	page[0] = booted
	return guest.PowerOff()
}

// kallsyms prints the number of the kernel's own symbols and their SHA-256, as
// they are in /proc/kallsyms.
func kallsyms() error {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return err
	}
	defer f.Close()
	n, sum := 0, sha256.New()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := lines.Text(); !strings.HasSuffix(line, "]") { // of a module
			fmt.Fprintln(sum, line)
			n++
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	fmt.Printf("symbols: %d\nsha256: %x\n", n, sum.Sum(nil))
	return guest.PowerOff()
}
