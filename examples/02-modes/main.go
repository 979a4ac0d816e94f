//go:build amd64

// Example 02: from real mode to protected mode to long mode. The guest changes
// its mode step by step; at each step it leaves a number at port 0x80, and we
// look at its registers.
package main

import (
	_ "embed"
	"fmt"

	"vmm/examples/internal/tiny"
	"vmm/kvm"
)

//go:embed guest.bin
var program []byte // of guest/guest.S

func main() { tiny.Main(run) }

func run() error {
	m, err := tiny.New(program, tiny.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	cpu := m.CPUs[0]
	fmt.Println("step  mode           CS    CR0.PE  CR0.PG  CR4.PAE  EFER.LMA  CS.L  CS.D")
	return tiny.Run(cpu, func(exit kvm.Exit) (done bool, err error) {
		switch exit.Reason {
		case kvm.ExitIO:
			s, err := cpu.Sregs()
			if err != nil {
				return false, err
			}
			fmt.Printf("%-4d  %-13s  %-4x  %-6d  %-6d  %-7d  %-8d  %-4d  %d\n",
				exit.IO().Data[0], mode(s), s.CS.Selector,
				s.CR0>>0&1, s.CR0>>31&1, s.CR4>>5&1, s.EFER>>10&1, s.CS.L, s.CS.DB)
			return false, nil
		case kvm.ExitHalt:
			return true, nil
		}
		return false, tiny.Unexpected(exit)
	})
}

// mode is what the processor calls the state that its registers are in. Intel
// SDM vol. 3 §2.2.
func mode(s kvm.Sregs) string {
	const pe, lma = 1 << 0, 1 << 10
	switch {
	case s.CR0&pe == 0:
		return "real"
	case s.EFER&lma == 0:
		return "protected"
	case s.CS.L == 0:
		return "compatibility"
	}
	return "64-bit"
}
