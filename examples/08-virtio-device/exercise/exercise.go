//go:build amd64 && !solutions

// Package exercise is for lesson 8: a virtio device.
package exercise

import (
	"vmm/devices/virtio"
)

// Adder is a virtio device with one queue of eight. A request is a chain whose
// readable part holds 32-bit numbers, little-endian, and whose writable part gets
// their sum, in 64 bits. A request with fewer than 8 bytes to write to gets none,
// and one whose readable bytes are no whole number of numbers the sum of those
// that are whole. The type is 0x4001.
type Adder struct {
}

// NewAdder returns an adder.
func NewAdder() virtio.Device { return nil }

// Maximum is the 64-bit little-endian number that the device's configuration space
// holds at offset 0: how many numbers a request may have at the most. The device
// takes no notice of numbers after that. Its other bytes read as ones.
const Maximum = 16
