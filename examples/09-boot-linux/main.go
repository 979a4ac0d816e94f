//go:build amd64

// Example 09: boot Linux by hand. What machine.New does for vmm, as little of it
// as Linux can do with: memory, a processor, interrupt controllers and a timer in
// KVM, a serial port, and package boot for the kernel.
//
//	go run ./examples/09-boot-linux KERNEL [INITRD]
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"

	"vmm/boot"
	"vmm/devices"
	"vmm/devices/i8042"
	"vmm/devices/serial"
	"vmm/kvm"
	"vmm/memory"
)

const (
	ramSize = 512 << 20
	// Without ACPI tables Linux takes the machine for the PC that it knows. A
	// panic resets it at once.
	cmdline = "console=ttyS0 acpi=off panic=-1 reboot=k"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: 09-boot-linux KERNEL [INITRD]")
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		log.Fatal("09-boot-linux: ", err)
	}
}

func run(kernel string, initrd []string) error {
	system, err := kvm.Open()
	if err != nil {
		return err
	}
	defer system.Close()
	vm, err := system.CreateVM()
	if err != nil {
		return err
	}
	defer vm.Close()

	// Memory, around the hole below 4 GiB.
	ram, err := memory.New(memory.Layout(ramSize), memory.Options{})
	if err != nil {
		return err
	}
	defer ram.Close()
	for i, r := range ram.Regions() {
		if err := vm.SetMemory(uint32(i), 0, r.Start, r.Host()); err != nil {
			return err
		}
	}

	// Interrupt controllers and timer, in the kernel.
	if err := errors.Join(vm.SetIdentityMapAddr(0xfffb_c000), vm.SetTSSAddr(0xfffb_d000), vm.CreateIRQChip(), vm.CreatePIT()); err != nil {
		return err
	}

	// Devices: the serial port for the console, and the keyboard controller,
	// through which a PC is reset.
	ended := false
	var ports devices.Bus
	keyboard := i8042.New(func() { ended = true }, nil)
	err = errors.Join(
		ports.Insert(0x3f8, serial.Size, "serial", serial.New(&line{vm: vm, gsi: 4}, os.Stdout)),
		ports.Insert(0x60, i8042.PortSize, "keyboard data", keyboard.Data()),
		ports.Insert(0x64, i8042.PortSize, "keyboard command", keyboard.Command()),
	)
	if err != nil {
		return err
	}

	// The kernel, and the state of the processor that it wants to begin with.
	entry, err := load(ram, kernel, initrd)
	if err != nil {
		return err
	}
	vcpu, err := vm.CreateVCPU(0)
	if err != nil {
		return err
	}
	defer vcpu.Close()
	if err := enter(system, vcpu, entry); err != nil {
		return err
	}

	vcpu.LockThread()
	for !ended {
		exit, err := vcpu.Run()
		if err != nil {
			return err
		}
		switch exit.Reason {
		case kvm.ExitIO:
			// A string instruction is several accesses of one port.
			io := exit.IO()
			for data := io.Data; len(data) > 0; data = data[io.Size:] {
				if io.Write {
					ports.Write(uint64(io.Port), data[:io.Size])
				} else {
					ports.Read(uint64(io.Port), data[:io.Size])
				}
			}
		case kvm.ExitMMIO:
			if io := exit.MMIO(); !io.Write {
				for i := range io.Data {
					io.Data[i] = 0xff // nobody there
				}
			}
		case kvm.ExitInterrupted:
			vcpu.ClearKick()
		default:
			return fmt.Errorf("unexpected exit: %v", exit.Reason)
		}
	}
	return nil
}

// load puts the kernel and what it is told into memory.
func load(ram *memory.Guest, path string, initrd []string) (boot.Entry, error) {
	image, err := boot.Open(path)
	if err != nil {
		return boot.Entry{}, err
	}
	defer image.Close()
	params := boot.Params{Protocol: boot.Auto, Cmdline: cmdline, Random: rand.Reader}
	for _, name := range initrd {
		f, err := os.Open(name)
		if err != nil {
			return boot.Entry{}, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return boot.Entry{}, err
		}
		params.Initrd = &boot.Initrd{Name: name, Data: f, Size: info.Size()}
	}
	loaded, err := image.Load(ram, params)
	if err != nil {
		return boot.Entry{}, err
	}
	return loaded.Enter(cmdline, 0)
}
