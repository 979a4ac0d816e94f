// Hold keeps two virtual machines open, for as long as the lab runs.
//
// KVM has the kernel rewrite instructions of its own (static keys) with the first
// machine of a host and after its last, in the scheduler (preempt_notifier_key); and
// likewise with the first virtual processor without a local APIC
// (kvm_has_noapic_vcpu), or with one that is off (apic_sw_disabled). QEMU's
// emulation of several processors can miss that: a processor then traps at a
// breakpoint that is no longer there, for ever, with interrupts off. With machines
// that stay, nothing is rewritten any more.
package main

import (
	"log"
	"math"
	"time"

	"vmm/kvm"
)

func main() {
	system, err := kvm.Open()
	if err != nil {
		log.Fatal(err)
	}
	for _, chip := range []bool{true, false} {
		if err := open(system, chip); err != nil {
			log.Fatal(err)
		}
	}
	time.Sleep(math.MaxInt64)
}

// open makes a machine with one processor, which never runs.
func open(system *kvm.System, chip bool) error {
	vm, err := system.CreateVM()
	if err != nil {
		return err
	}
	if chip {
		if err := vm.CreateIRQChip(); err != nil {
			return err
		}
	}
	_, err = vm.CreateVCPU(0)
	return err
}
