//go:build amd64

// Example 03: port I/O and memory-mapped I/O. A device is whatever answers when
// a guest reads and writes where there is no memory. Here, that is two small
// functions.
package main

import (
	_ "embed"
	"fmt"

	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.S

// windowAddr is an address without memory: the guest's is taken away there.
const windowAddr = 0xd_0000

func main() { tiny.Main(run) }

func run() error {
	m, err := tiny.New(program, tiny.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	// Memory below the window, and none from there on.
	if err := m.DeleteMemory(0); err != nil {
		return err
	}
	if err := m.SetMemory(0, 0, 0, m.RAM[:windowAddr]); err != nil {
		return err
	}
	return tiny.Run(m.CPUs[0], func(exit kvm.Exit) (done bool, err error) {
		switch exit.Reason {
		case kvm.ExitIO:
			port(exit.IO())
		case kvm.ExitMMIO:
			window(exit.MMIO())
		case kvm.ExitHalt:
			return true, nil
		default:
			return false, tiny.Unexpected(exit)
		}
		return false, nil
	})
}

// port answers an access of a port. What it puts into Data before the guest runs
// again is what an IN reads. A string instruction may be several accesses in one
// exit, or one exit each: that is KVM's to choose.
func port(io kvm.IO) {
	for data := io.Data; len(data) > 0; data = data[io.Size:] {
		access := data[:io.Size]
		if io.Write {
			fmt.Printf("out    port %#x: % x\n", io.Port, access)
			continue
		}
		switch io.Port {
		case 0x10:
			access[0] = 41
		default: // nobody there: a bus that floats reads as ones
			for i := range access {
				access[i] = 0xff
			}
		}
		fmt.Printf("in     port %#x: % x\n", io.Port, access)
	}
}

// window answers an access of memory that is not there.
func window(io kvm.MMIO) {
	if io.Write {
		fmt.Printf("write  address %#x: % x\n", io.Addr, io.Data)
		return
	}
	copy(io.Data, []byte{0xef, 0xbe, 0xad, 0xde}) // little-endian 0xdeadbeef
	fmt.Printf("read   address %#x: % x\n", io.Addr, io.Data)
}
