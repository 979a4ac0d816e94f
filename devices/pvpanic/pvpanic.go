// Package pvpanic is the device by which a guest's kernel says that it has
// panicked: one port, as QEMU's docs/specs/pvpanic.rst describes it.
package pvpanic

import (
	"strings"

	"vmm/devices"
)

// Size is the number of ports that the device occupies.
const Size = 1

// Event is a set of things that happened to the guest's kernel.
type Event uint8

// The events.
const (
	// Panicked: the kernel panicked and will not go on.
	Panicked Event = 1 << 0
	// CrashLoaded: it panicked, and a crash kernel takes over.
	CrashLoaded Event = 1 << 1

	// The third event of the specification, an orderly shutdown, is left out:
	// the machine has ACPI for that.
	supported = Panicked | CrashLoaded
)

func (e Event) String() string {
	var names []string
	if e&Panicked != 0 {
		names = append(names, "panicked")
	}
	if e&CrashLoaded != 0 {
		names = append(names, "crash kernel loaded")
	}
	return strings.Join(names, ", ")
}

// Device is the port.
type Device struct {
	notify func(Event)
}

// New returns a device that calls notify for each event that the guest
// reports.
func New(notify func(Event)) *Device { return &Device{notify} }

var _ devices.Device = (*Device)(nil)

// Read implements devices.Device: the events that may be reported.
func (d *Device) Read(_ uint64, data []byte) { data[0] = uint8(supported) }

// Write implements devices.Device. Events that are not supported are ignored.
func (d *Device) Write(_ uint64, data []byte) {
	if e := Event(data[0]) & supported; e != 0 {
		d.notify(e)
	}
}
