//go:build amd64 && !solutions

// Package exercise is for lesson 5: starting and stopping processors.
package exercise

import (
	"errors"
	"time"

	"vmm/kvm"
)

// StartUp are the two halves of the interrupt command register, high and low, that
// have the processor with an APIC ID begin at a guest-physical address, which is a
// multiple of 4096 below 1 MiB. Intel SDM vol. 3 §11.6.1; write high first.
func StartUp(apicID uint8, addr uint32) (high, low uint32) {
	return 0, 0
}

// RunFor runs a processor whose guest may never come back, and returns after a
// time all the same. Signals that Go sends itself do not end it early.
func RunFor(cpu *kvm.VCPU, d time.Duration) error {
	return errors.New("not done yet")
}
