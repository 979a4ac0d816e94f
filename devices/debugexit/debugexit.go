// Package debugexit is a port that ends the machine with a value, as QEMU's
// isa-debug-exit does: small test kernels report their result through it.
package debugexit

import "vmm/devices"

// Size is the number of ports that the device occupies.
const Size = 4

// Device is the port.
type Device struct {
	exit func(value uint32)
}

// New returns a device that calls exit with what the guest writes.
func New(exit func(value uint32)) *Device { return &Device{exit} }

var _ devices.Device = (*Device)(nil)

// Read implements devices.Device: there is nothing to read.
func (d *Device) Read(_ uint64, data []byte) { clear(data) }

// Write implements devices.Device.
func (d *Device) Write(_ uint64, data []byte) {
	var value uint32
	for i, b := range data {
		value |= uint32(b) << (8 * i)
	}
	d.exit(value)
}
