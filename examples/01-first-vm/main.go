//go:build amd64

// Example 01: the smallest virtual machine. One processor in real mode, one page
// of memory, a program of a few instructions, and nobody there but KVM.
package main

import (
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"vmm/kvm"
)

// program adds BL to AL, and shows the digit on the serial port of a PC. It is
// 16-bit code; the processor starts as every PC has since 1981.
var program = []byte{
	0xba, 0xf8, 0x03, // mov $0x3f8, %dx
	0x00, 0xd8, //       add %bl, %al
	0x04, '0', //        add $'0', %al
	0xee,       //       out %al, (%dx)
	0xb0, '\n', //       mov $'\n', %al
	0xee, //             out %al, (%dx)
	0xf4, //             hlt
}

const (
	pageSize = 4096
	loadAddr = 0x1000 // guest-physical, where the program lies
)

func main() {
	if err := run(); err != nil {
		log.Fatal("01-first-vm: ", err)
	}
}

func run() error {
	// The system: /dev/kvm.
	system, err := kvm.Open()
	if err != nil {
		return err
	}
	defer system.Close()

	// A VM: an address space, empty, and no processor yet.
	vm, err := system.CreateVM()
	if err != nil {
		return err
	}
	defer vm.Close()

	// Its memory is memory of this process. What we write here, the guest reads
	// there, from address loadAddr on.
	ram, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer unix.Munmap(ram)
	copy(ram, program)
	if err := vm.SetMemory(0, 0, loadAddr, ram); err != nil {
		return err
	}

	// A processor, in the state that a reset leaves it in. Only where it begins
	// is ours to say: code segment 0, and the registers.
	vcpu, err := vm.CreateVCPU(0)
	if err != nil {
		return err
	}
	defer vcpu.Close()
	sregs, err := vcpu.Sregs()
	if err != nil {
		return err
	}
	sregs.CS.Base, sregs.CS.Selector = 0, 0
	if err := vcpu.SetSregs(sregs); err != nil {
		return err
	}
	// Bit 1 of RFLAGS is always 1. Intel SDM vol. 1 §3.4.3.
	if err := vcpu.SetRegs(kvm.Regs{RIP: loadAddr, RAX: 2, RBX: 3, RFLAGS: 1 << 1}); err != nil {
		return err
	}

	// Run it, on one thread, until it halts. Run comes back whenever the guest
	// does something that needs a device, which is what we are here.
	vcpu.LockThread()
	for {
		exit, err := vcpu.Run()
		if err != nil {
			return err
		}
		switch exit.Reason {
		case kvm.ExitIO:
			io := exit.IO()
			fmt.Printf("exit: %d byte to port %#x: %q\n", io.Size, io.Port, io.Data)
		case kvm.ExitHalt:
			fmt.Println("exit: the guest has halted")
			return nil
		case kvm.ExitInterrupted:
			vcpu.ClearKick()
		default:
			return fmt.Errorf("unexpected exit: %v", exit.Reason)
		}
	}
}
