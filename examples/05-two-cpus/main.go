//go:build amd64

// Example 05: two processors. Each is a thread of ours that calls Run. The second
// waits inside KVM until the first starts it, as on a PC.
package main

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"sync"

	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.S

func main() { tiny.Main(run) }

func run() error {
	m, err := tiny.New(program, tiny.Options{CPUs: 2, Interrupts: true})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.LongMode(); err != nil {
		return err
	}

	var stopped sync.WaitGroup
	errs := make([]error, len(m.CPUs))
	ended := make(chan struct{})
	for i, cpu := range m.CPUs {
		stopped.Go(func() {
			errs[i] = runCPU(cpu, ended)
			// Whoever is first ends the machine: the others are kicked out of
			// the guest, and see that it has ended.
			stop(ended, m.CPUs)
		})
	}
	stopped.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

var once sync.Once

func stop(ended chan struct{}, cpus []*kvm.VCPU) {
	once.Do(func() {
		close(ended)
		for _, c := range cpus {
			c.Kick()
		}
	})
}

// runCPU is a processor's thread.
func runCPU(cpu *kvm.VCPU, ended chan struct{}) error {
	cpu.LockThread()
	for {
		exit, err := cpu.Run()
		if err != nil {
			return err
		}
		switch exit.Reason {
		case kvm.ExitInterrupted:
			cpu.ClearKick()
			select {
			case <-ended:
				return nil
			default:
			}
		case kvm.ExitIO:
			io := exit.IO()
			if io.Port == 0x11 {
				fmt.Printf("processor %d: the guest calls me %c\n", cpu.ID, io.Data[0])
				continue
			}
			fmt.Printf("processor %d: the counter is %d\n", cpu.ID, binary.LittleEndian.Uint32(io.Data))
			return nil
		default:
			return tiny.Unexpected(exit)
		}
	}
}
