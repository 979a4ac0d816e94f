package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"initramfs.local/guest"
)

// serve makes the guest the tests' to command. Each line that comes on the
// console is a script in Go's quotes; it is run in the Debian system that is on
// the disk with the serial number "debian", and a line with its status follows
// what it writes. An empty line powers off.
func serve(string) error {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if _, err := term.MakeRaw(int(console.Fd())); err != nil {
		return err
	}
	// What the kernel has to say, unless it is an alert, would come in between what
	// the scripts write. (u-root's init undoes loglevel=2 of the command line.)
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("2"), 0); err != nil {
		return err
	}
	if err := enter("debian"); err != nil {
		return err
	}
	fmt.Fprint(console, "--- ready ---\n")
	lines := bufio.NewReader(console)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\n" {
			return guest.PowerOff()
		}
		script, err := strconv.Unquote(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		cmd := exec.Command("/bin/bash", "-c", script)
		cmd.Stdout, cmd.Stderr = console, console
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			return err
		}
		fmt.Fprintf(console, "\n--- status %d ---\n", cmd.ProcessState.ExitCode())
	}
}

// enter makes the system on a disk this process's own, with a layer in memory
// on top that takes what is written.
func enter(serial string) error {
	disk, err := findDisk(serial)
	if err != nil {
		return err
	}
	for _, m := range []struct{ source, target, kind, data string }{
		{disk, "/system/lower", "ext4", "noload"}, // as it is on the disk: no journal is played back
		{"scratch", "/system/scratch", "tmpfs", ""},
		{"overlay", "/system/root", "overlay", "lowerdir=/system/lower,upperdir=/system/scratch/upper,workdir=/system/scratch/work"},
		{"proc", "/system/root/proc", "proc", ""},
		{"sys", "/system/root/sys", "sysfs", ""},
		{"dev", "/system/root/dev", "devtmpfs", ""},
		{"pts", "/system/root/dev/pts", "devpts", ""},
		{"run", "/system/root/run", "tmpfs", ""},
	} {
		flags := uintptr(0)
		if m.source == disk {
			flags = unix.MS_RDONLY
		}
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		if m.kind == "tmpfs" {
			if err := errors.Join(os.MkdirAll(m.target+"/upper", 0o755), os.MkdirAll(m.target+"/work", 0o755)); err != nil {
				return err
			}
		}
	}
	// Modules, to be taken out and put back.
	if err := os.CopyFS("/system/root/modules", os.DirFS("/modules")); err != nil {
		return err
	}
	return errors.Join(unix.Chroot("/system/root"), os.Chdir("/root"))
}

// findDisk is the device of the disk with a serial number.
func findDisk(serial string) (string, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", fmt.Errorf("no disk with the serial number %q", serial)
}

// kexec starts another kernel in the place of this one, and tells it to serve:
// the one on the disk with the serial number "kernel", with the initramfs on the
// disk "initrd". This kernel's drivers have used the devices by then, and leave
// them as they are.
func kexec(string) error {
	var files [2]*os.File
	for i, serial := range []string{"kernel", "initrd"} {
		disk, err := findDisk(serial)
		if err != nil {
			return err
		}
		// The kernel reads regular files only.
		data, err := os.ReadFile(disk)
		if err != nil {
			return err
		}
		if err := os.WriteFile("/"+serial, data, 0o600); err != nil {
			return err
		}
		if files[i], err = os.Open("/" + serial); err != nil {
			return err
		}
		defer files[i].Close()
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	next := strings.Replace(strings.TrimSpace(string(line)), "vmm.do=kexec", "vmm.do=serve", 1)
	if err := unix.KexecFileLoad(int(files[0].Fd()), int(files[1].Fd()), next, 0); err != nil {
		return err
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC)
}
