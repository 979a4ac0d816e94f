//go:build amd64

// Example 08: a virtio device from scratch, and a driver for it. The queue, the
// transport and its registers are the project's; the device in device.go is all
// that is new. The driver is guest/guest.c: it has nothing but the specification.
package main

import (
	_ "embed"
	"fmt"
	"log/slog"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.c

const (
	deviceAddr = 0xd000_0000 // where there is no memory
	portOutput = 0x3f8
	portEnd    = 0xf4
)

func main() { tiny.Main(run) }

func run() error {
	m, err := tiny.New(program, tiny.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.LongMode(); err != nil {
		return err
	}

	device := &Shouter{}
	transport, err := virtio.NewMMIO(device, virtio.Config{Name: "shouter", Memory: m.Memory, Log: slog.Default()}, noInterrupt{})
	if err != nil {
		return err
	}
	var bus devices.Bus
	if err := bus.Insert(deviceAddr, virtio.MMIOSize, "shouter", transport); err != nil {
		return err
	}

	accesses := 0
	err = tiny.Run(m.CPUs[0], func(exit kvm.Exit) (done bool, err error) {
		switch exit.Reason {
		case kvm.ExitMMIO:
			accesses++
			if io := exit.MMIO(); io.Write {
				bus.Write(io.Addr, io.Data)
			} else {
				bus.Read(io.Addr, io.Data)
			}
			return false, nil
		case kvm.ExitIO:
			io := exit.IO()
			if io.Port == portEnd {
				return true, nil
			}
			fmt.Printf("%s", io.Data)
			return false, nil
		}
		return false, tiny.Unexpected(exit)
	})
	if closed := transport.Close(); err == nil { // waits for the device's goroutine
		err = closed
	}
	fmt.Printf("requests served: %d; accesses of the device's registers: %d\n", device.served, accesses)
	return err
}

// noInterrupt is for a driver that looks for answers by itself.
type noInterrupt struct{}

func (noInterrupt) Signal() {}
