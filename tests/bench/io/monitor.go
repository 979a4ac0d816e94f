package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// What both monitors give a guest. Its devices are told apart by serial numbers
// and addresses, which init knows.
const (
	memory  = "512M"
	tapMAC  = "52:54:00:00:00:01"
	userMAC = "52:54:00:00:00:02"
)

// command starts a guest under the named monitor.
func (c config) command(monitor string) *exec.Cmd {
	name, options, _ := strings.Cut(monitor, ":")
	name, other, changed := strings.Cut(name, "@")
	if changed {
		c.vmm = other
	}
	// By the guest, the host's loopback is reached at another address.
	host := map[string]string{"vmm": "10.0.2.4", "qemu": "10.0.2.2"}[name]
	line := fmt.Sprintf("console=ttyS0 quiet panic=-1 reboot=t jobs=%s requests=%d host=%s", c.jobs, c.requests, host)
	if name == "vmm" {
		return c.startVMM(line, strings.Split(options, ":"))
	}
	return c.startQEMU(line, strings.Split(options, ":"))
}

func (c config) image(name string) string { return filepath.Join(c.images, name+".img") }

func (c config) startVMM(line string, options []string) *exec.Cmd {
	args := []string{"boot", "--kernel", c.kernel, "--initrd", c.initrd, "--cmdline", line, "--memory", memory,
		"--disk", "path=" + c.tools + ",ro,serial=tools",
		"--disk", "path=" + c.image("cached") + ",serial=cached,cache=writeback",
		"--disk", "path=" + c.image("direct") + ",serial=direct,cache=none",
		"--net", "tap=io0,mac=" + tapMAC, "--net", "user,loopback,mac=" + userMAC}
	if slices.Contains(options, "mmio") {
		args = append(args, "--transport", "mmio")
	}
	return exec.Command(c.vmm, args...)
}

func (c config) startQEMU(line string, options []string) *exec.Cmd {
	has := func(o string) bool { return slices.Contains(options, o) }
	machine, bus := "microvm,rtc=off,pit=off,pic=off", "device"
	if has("pci") {
		machine, bus = machine+",pcie=on", "pci"
	}
	card := "virtio-net-" + bus
	if has("pci") {
		card += ",romfile=" // what only firmware would read
	}
	cached, direct := "threads", "native"
	for _, aio := range []string{"threads", "native", "io_uring"} {
		if has(aio) {
			direct = aio
			if aio != "native" { // it takes only O_DIRECT
				cached = aio
			}
		}
	}
	args := []string{"-M", machine, "-accel", "kvm", "-cpu", "host", "-m", memory, "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", c.kernel, "-initrd", c.initrd, "-append", line,
		"-netdev", "tap,id=tap,ifname=io0,script=no,downscript=no,vhost=off",
		"-device", card + ",netdev=tap,mac=" + tapMAC,
		"-netdev", "user,id=user",
		"-device", card + ",netdev=user,mac=" + userMAC}
	disk := func(name, path, settings string) {
		device := fmt.Sprintf("virtio-blk-%s,drive=%s,serial=%s", bus, name, name)
		if !has("noiothread") {
			args = append(args, "-object", "iothread,id=io-"+name)
			device += ",iothread=io-" + name
		}
		args = append(args, "-drive", fmt.Sprintf("if=none,id=%s,format=raw,file=%s,%s", name, path, settings), "-device", device)
	}
	disk("tools", c.tools, "readonly=on")
	disk("cached", c.image("cached"), "cache=writeback,aio="+cached)
	disk("direct", c.image("direct"), "cache=none,aio="+direct)
	return exec.Command("qemu-system-x86_64", args...)
}
