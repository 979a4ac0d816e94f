//go:build amd64

// Example 06: two ways to notice that memory is touched. The guest's kernel has
// page faults, of which we see nothing but what it tells; KVM notes for us which
// pages of the machine's memory are written, of which the guest sees nothing.
package main

import (
	_ "embed"
	"encoding/binary"
	"fmt"

	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.S

const (
	window   = 0x80_0000_0000 // virtual, where the guest maps on demand
	frames   = 0x20_0000      // physical, where it takes memory from
	pageSize = 4096
)

func main() { tiny.Main(run) }

func run() error {
	m, err := tiny.New(program, tiny.Options{DirtyLog: true})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.LongMode(); err != nil {
		return err
	}
	cpu := m.CPUs[0]
	var told [2]uint32 // error code and page
	err = tiny.Run(cpu, func(exit kvm.Exit) (done bool, err error) {
		switch exit.Reason {
		case kvm.ExitHalt:
			return true, nil
		case kvm.ExitIO:
			io := exit.IO()
			value := binary.LittleEndian.Uint32(io.Data)
			if io.Port < 0x12 {
				told[io.Port-0x10] = value
				return false, nil
			}
			fmt.Printf("page fault: %s page %d of the window; it gets frame %#x\n", access(told[0]), told[1], value)
			return false, nil
		}
		return false, tiny.Unexpected(exit)
	})
	if err != nil {
		return err
	}

	// Through the guest's page tables, as its processor goes.
	for _, page := range []uint64{0, 1, 5, 9} {
		t, err := cpu.Translate(window + page*pageSize)
		if err != nil {
			return err
		}
		if t.Valid == 0 {
			fmt.Printf("page %d is nowhere\n", page)
			continue
		}
		fmt.Printf("page %d is at %#x\n", page, t.Physical)
	}

	// What has been written since the machine was made.
	bitmap, err := m.VM.DirtyLog(0, tiny.MemorySize/pageSize)
	if err != nil {
		return err
	}
	for page := uint64(frames / pageSize); page < tiny.MemorySize/pageSize; page++ {
		if bitmap[page/64]>>(page%64)&1 != 0 {
			fmt.Printf("frame %#x has been written\n", page*pageSize)
		}
	}
	return nil
}

// access is what a page-fault error code says. Intel SDM vol. 3, figure 4-12.
func access(code uint32) string {
	if code&2 != 0 {
		return "a write to"
	}
	return "a read of"
}
