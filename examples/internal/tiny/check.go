//go:build amd64

package tiny

import (
	"errors"
	"time"

	"vmm/kvm"
)

// Output runs a real-mode program, with registers to begin with, until it halts,
// and returns what it wrote to the serial port. It is for checking programs that
// may go wrong in any way: it ends after ten seconds.
func Output(program []byte, regs kvm.Regs) (string, error) {
	if len(program) == 0 {
		return "", errors.New("there is no program yet")
	}
	m, err := New(program, Options{})
	if err != nil {
		return "", err
	}
	defer m.Close()
	cpu := m.CPUs[0]
	regs.RIP, regs.RSP, regs.RFLAGS = LoadAddr, StackTop, 1<<1
	if err := cpu.SetRegs(regs); err != nil {
		return "", err
	}
	deadline := time.Now().Add(10 * time.Second)
	timer := time.AfterFunc(10*time.Second, cpu.Kick)
	defer timer.Stop()
	cpu.LockThread()
	var out []byte
	for {
		exit, err := cpu.Run()
		switch {
		case err != nil:
			return string(out), err
		case time.Now().After(deadline):
			return string(out), errors.New("the program does not halt")
		case exit.Reason == kvm.ExitHalt:
			return string(out), nil
		case exit.Reason == kvm.ExitInterrupted:
			cpu.ClearKick()
		case exit.Reason == kvm.ExitIO && exit.IO().Port == 0x3f8 && exit.IO().Write:
			out = append(out, exit.IO().Data...)
		default:
			return string(out), Unexpected(exit)
		}
	}
}
