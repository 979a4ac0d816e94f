// Package boottimer is the device of Firecracker by which a guest says that it
// has booted: a byte in memory, to which it writes 123. Guest images that were
// made for Firecracker's measurements write it from their init.
package boottimer

import "vmm/devices"

const (
	// Addr is where the byte is, in guest-physical memory.
	Addr = 0xc000_0000
	// Size is the number of bytes that the device occupies.
	Size = 1
	// Booted is what a guest writes.
	Booted = 123
)

// Timer is the device.
type Timer struct{ booted func() }

// New returns a device that calls booted each time that a guest says so.
func New(booted func()) *Timer { return &Timer{booted} }

var _ devices.Device = (*Timer)(nil)

// Read implements devices.Device: there is nothing to read.
func (t *Timer) Read(_ uint64, data []byte) { clear(data) }

// Write implements devices.Device.
func (t *Timer) Write(_ uint64, data []byte) {
	if len(data) == 1 && data[0] == Booted {
		t.booted()
	}
}
