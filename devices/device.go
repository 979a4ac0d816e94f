// Package devices holds what the devices of a PC have in common: the bus that
// leads a guest's access to a device, and the interrupt line that leads a
// device's signal to the guest. Each device is a package below.
package devices

// Device is something a guest reaches by reading and writing, at ports or in
// memory. It is given offsets from the start of its range and never learns
// its own address.
//
// There is no error: what a guest does wrong is data, answered as the
// hardware would. len(data) is 1, 2, 4 or 8, and offset may be no multiple of it;
// a Bus lets no access reach past the end of the range that the device was
// inserted at. Calls come from every vCPU's goroutine, concurrently: a device
// locks itself.
type Device interface {
	// Read fills data with what the guest reads at offset. Before the call
	// data is all ones, which is what an absent register reads as.
	Read(offset uint64, data []byte)
	// Write takes what the guest wrote at offset, least significant byte
	// first.
	Write(offset uint64, data []byte)
}

// EachByte calls access for each byte of a guest's access, the lowest address
// first. It is for devices whose registers are a byte wide: a PC's bridge makes
// byte accesses of wider ones for them.
func EachByte(offset uint64, data []byte, access func(offset uint64, data []byte)) {
	for i := range data {
		access(offset+uint64(i), data[i:i+1:i+1])
	}
}

// Line is an interrupt line, from the device that drives it to an input of
// the interrupt controller. A device calls Set whenever the level it drives
// may have changed; setting the same level again does nothing. Set is safe
// for concurrent use, and a device may call it with its own lock held.
type Line interface {
	Set(level bool)
}

// Interrupt is an edge-triggered interrupt: each Signal is one. It is safe for
// concurrent use, and a device may call it with its own lock held. An Event is
// one, when KVM waits for it.
type Interrupt interface {
	Signal()
}

// Message is a message-signalled interrupt of a PCI device: one that the guest
// has told where to go.
type Message interface {
	Interrupt
	// Route makes each following Signal a write of data to addr, which is
	// what the interrupt controllers listen for. Intel SDM vol. 3 §11.11.
	Route(addr uint64, data uint32) error
}
