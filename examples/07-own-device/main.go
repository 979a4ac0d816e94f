//go:build amd64

// Example 07: a device of one's own, on the bus. It knows neither KVM nor where
// it lies; what connects it to both is in this file.
package main

import (
	_ "embed"
	"fmt"
	"log"

	"vmm/devices"
	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.S

const (
	portReverser = 0x300
	irqReverser  = 5 // input of the I/O APIC
	portOutput   = 0x3f8
)

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

	var ports devices.Bus
	if err := ports.Insert(portReverser, Size, "reverser", NewReverser(&line{vm: m.VM, gsi: irqReverser})); err != nil {
		return err
	}
	if err := ports.Insert(portOutput, 1, "output", output{}); err != nil {
		return err
	}

	err = tiny.Run(m.CPUs[0], func(exit kvm.Exit) (done bool, err error) {
		if exit.Reason != kvm.ExitIO {
			return false, tiny.Unexpected(exit)
		}
		io := exit.IO()
		switch {
		case io.Port == 0xf4:
			return true, nil
		case io.Write:
			ports.Write(uint64(io.Port), io.Data)
		default:
			ports.Read(uint64(io.Port), io.Data)
		}
		return false, nil
	})
	fmt.Printf("\naccesses that no device has claimed: %d\n", ports.Unclaimed())
	return err
}

// line ends at an input of the interrupt controllers.
type line struct {
	vm  *kvm.VM
	gsi uint32
}

// Set implements devices.Line.
func (l *line) Set(level bool) {
	if err := l.vm.SetIRQLine(l.gsi, level); err != nil {
		log.Print("interrupt line: ", err)
	}
}

// output is a device that shows what it is sent.
type output struct{}

func (output) Read(uint64, []byte)         {}
func (output) Write(_ uint64, data []byte) { fmt.Printf("%c", data[0]) }
