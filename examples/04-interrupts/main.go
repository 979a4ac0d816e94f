//go:build amd64

// Example 04: interrupts. The interrupt controllers are KVM's, in the kernel; a
// timer interrupt never comes to us. A device's does: we drive its line.
package main

import (
	_ "embed"
	"fmt"

	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.S

// devicePin is the input of the I/O APIC that our device's line ends at.
const devicePin = 5

func main() { tiny.Main(run) }

func run() error {
	m, err := tiny.New(program, tiny.Options{Interrupts: true})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.LongMode(); err != nil {
		return err
	}
	return tiny.Run(m.CPUs[0], func(exit kvm.Exit) (done bool, err error) {
		if exit.Reason != kvm.ExitIO {
			return false, tiny.Unexpected(exit)
		}
		io := exit.IO()
		if !io.Write { // the handler asks the device
			fmt.Println("the guest's handler reads the device")
			io.Data[0] = '!'
			return false, nil
		}
		switch c := io.Data[0]; c {
		case 't':
			fmt.Println("the guest's timer has ticked")
		case 'd':
			fmt.Println("the guest waits: we raise the device's line, and lower it again")
			if err := m.SetIRQLine(devicePin, true); err != nil {
				return false, err
			}
			return false, m.SetIRQLine(devicePin, false)
		case 'q':
			fmt.Println("the guest is done")
			return true, nil
		default:
			fmt.Printf("the guest's handler has read %q\n", c)
		}
		return false, nil
	})
}
