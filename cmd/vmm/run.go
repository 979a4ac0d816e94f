package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/boot/cache"
	"vmm/disk"
	"vmm/machine"
	"vmm/trace"
)

// config turns the flags into the machine that they describe.
func (f *bootFlags) config(ownCmdline bool) (machine.Config, error) {
	cfg := machine.Config{
		Kernel:    f.kernel,
		Initrd:    f.initrd,
		Modules:   f.modules,
		Append:    string(f.append),
		Protocol:  boot.Protocol(f.protocol),
		KASLR:     boot.KASLR(f.kaslr),
		Memory:    uint64(f.memory),
		HugePages: f.hugePages,
		Prefault:  f.prefault,

		TransparentHugePages: f.transparent,
		ShareKernel:          f.shareKernel,

		CPUs:      f.cpus,
		Nested:    f.nested,
		DebugExit: f.debugExit.on,
		Disks:     f.disks,
		Nets:      f.nets,
		Shares:    f.shares,
		Vsock:     f.vsock,
		Balloon:   f.balloon,
		RNG:       f.rng,
		Keyboard:  f.control != "",
		Transport: f.transport,

		DebugExitPort: f.debugExit.port,
		DoorbellExits: f.trace.doorbells,
		VirtioConsole: f.console == consoleVirtio,
	}
	if f.rootfs != "" {
		root := machine.Disk{Config: disk.Config{Path: f.rootfs}}
		cfg.Disks = append([]machine.Disk{root}, cfg.Disks...)
		cfg.Append = strings.TrimSpace("root=/dev/vda rw " + cfg.Append)
	}
	for i := range cfg.Nets {
		cfg.Nets[i].Sandbox = f.sandbox
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
	}
	return cmp.Or(f.gdb.check(), f.timing.check())
}
