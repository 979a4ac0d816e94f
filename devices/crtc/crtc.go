// Package crtc is what kernels use of a PC's text screen besides its memory: the
// index and data ports of the Motorola MC6845 that drives it, of which they read and
// write the cursor's place. Nothing is shown. It is there for kernels that write to
// a screen without a look whether there is one, and stop at a cursor that is nowhere.
package crtc

import (
	"fmt"
	"sync"

	"vmm/devices"
)

// Size is the number of ports: index and data.
const Size = 2

const (
	regIndex = 0
	regData  = 1
)

// registers is how many the chip has; those that follow on a VGA read as 0 here.
// MC6845 data sheet, "CRTC Internal Register Assignment".
const registers = 18

// Controller is the chip.
type Controller struct {
	mu    sync.Mutex
	state state
}

type state struct {
	index uint8
	reg   [registers]uint8
}

// New returns a controller whose cursor is at the start of the screen.
func New() *Controller { return &Controller{} }

var (
	_ devices.Device = (*Controller)(nil)
	_ devices.Namer  = (*Controller)(nil)
)

// Read implements devices.Device.
func (c *Controller) Read(offset uint64, data []byte) { devices.EachByte(offset, data, c.read) }

// Write implements devices.Device. A write of two bytes sets the index and then the
// register that it stands for.
func (c *Controller) Write(offset uint64, data []byte) { devices.EachByte(offset, data, c.write) }

func (c *Controller) read(offset uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	switch {
	case offset == regIndex:
		data[0] = s.index
	case s.index < registers:
		data[0] = s.reg[s.index]
	default:
		data[0] = 0
	}
}

func (c *Controller) write(offset uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	switch {
	case offset == regIndex:
		s.index = data[0]
	case s.index < registers:
		s.reg[s.index] = data[0]
	}
}

// Register implements devices.Namer.
func (c *Controller) Register(offset uint64, _ bool) string {
	if offset == regIndex {
		return "index"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("R%d", c.state.index)
}

// Meaning implements devices.Namer.
func (*Controller) Meaning(register string, _ bool, _ uint64) string {
	switch register {
	case "R14":
		return "cursor, high byte"
	case "R15":
		return "cursor, low byte"
	}
	return ""
}
