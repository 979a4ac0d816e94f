// Package postcode is port 0x80, where a PC's firmware writes how far its
// power-on self-test has come. A guest marks the stages of its boot with it.
package postcode

import (
	"sync/atomic"

	"vmm/devices"
)

// Size is the number of ports that the device occupies.
const Size = 1

// Port is the port.
type Port struct {
	mark func(code byte)
	last atomic.Uint32
}

// New returns a port that calls mark, if it is not nil, for each code the
// guest writes.
func New(mark func(code byte)) *Port { return &Port{mark: mark} }

var _ devices.Device = (*Port)(nil)

// Read implements devices.Device: the last code.
func (p *Port) Read(_ uint64, data []byte) { data[0] = byte(p.last.Load()) }

// Write implements devices.Device.
func (p *Port) Write(_ uint64, data []byte) {
	p.last.Store(uint32(data[0]))
	if p.mark != nil {
		p.mark(data[0])
	}
}
