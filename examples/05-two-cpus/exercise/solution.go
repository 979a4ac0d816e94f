//go:build amd64 && solutions

package exercise

import (
	"sync/atomic"
	"time"

	"vmm/kvm"
)

// StartUp is a start-up interrupt, asserted.
func StartUp(apicID uint8, addr uint32) (high, low uint32) {
	return uint32(apicID) << 24, 0x4600 | addr>>12
}

// RunFor kicks the processor when the time is up.
func RunFor(cpu *kvm.VCPU, d time.Duration) error {
	cpu.LockThread()
	var over atomic.Bool
	timer := time.AfterFunc(d, func() {
		over.Store(true) // first, so that whoever is kicked sees it
		cpu.Kick()
	})
	defer timer.Stop()
	for !over.Load() {
		exit, err := cpu.Run()
		if err != nil {
			return err
		}
		if exit.Reason == kvm.ExitInterrupted {
			cpu.ClearKick()
		}
	}
	return nil
}
