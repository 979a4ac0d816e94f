// Package i8042 is the keyboard controller of a PC, without a mouse, and with a
// keyboard if it is given an interrupt line for one. Its other parts are the A20
// gate, which is always open, and the reset line, which software has pulled since
// the PC/AT. The commands are those of the IBM PC/AT Technical Reference (1985),
// "Keyboard Controller" and "Keyboard".
package i8042

import (
	"errors"
	"sync"

	"vmm/devices"
)

// PortSize is the number of ports of each of Data and Command.
const PortSize = 1

// Bits of the status register.
const (
	statusOutputFull = 1 << 0 // a byte waits at the data port
	statusSystem     = 1 << 2 // the self-test has passed
	statusCommand    = 1 << 3 // what was written last was a command
	statusUnlocked   = 1 << 4
)

// Commands.
const (
	cmdReadControl  = 0x20
	cmdWriteControl = 0x60
	cmdTestMouse    = 0xa9
	cmdSelfTest     = 0xaa
	cmdTestKeyboard = 0xab
	cmdDisable      = 0xad // the keyboard
	cmdEnable       = 0xae
	cmdReadOutput   = 0xd0
	cmdWriteOutput  = 0xd1
	cmdEcho         = 0xd2 // the operand comes back as if from the keyboard
	cmdEchoMouse    = 0xd3 // and as if from the mouse
	cmdPulse        = 0xf0 // to 0xff: each clear bit pulses an output
)

// Bits of the output port, and of a pulse command.
const (
	outputReset = 1 << 0 // low: reset
	outputA20   = 1 << 1
)

// Bits of the control byte.
const (
	controlInterrupt = 1 << 0 // for a byte of the keyboard's
	controlDisabled  = 1 << 4 // the keyboard's clock is held low
	controlTranslate = 1 << 6 // from scan code set 2 to set 1
)

// Answers to tests.
const (
	selfTestPassed = 0x55
	testPassed     = 0x00
	noDevice       = 0x01 // clock line stuck low: nothing is connected
)

// Controller is the keyboard controller.
type Controller struct {
	reset func()
	line  devices.Line // the keyboard's interrupt; nil without a keyboard

	mu    sync.Mutex
	state state
}

type state struct {
	control    uint8
	output     uint8
	outputFull bool
	command    uint8 // waits for its byte at the data port; 0 for none
	wasCommand bool  // what was written last was a command
	keyboard   *keyboard
}

// New returns a controller that calls reset when the guest pulls the reset line.
// With a line, which is interrupt 1 on a PC, a keyboard is connected.
func New(reset func(), line devices.Line) *Controller {
	c := &Controller{reset: reset, line: line}
	if line != nil {
		c.state.keyboard = &keyboard{scanning: true}
	}
	return c
}

// ErrNoDriver says that no driver of the guest's listens to the keyboard.
var ErrNoDriver = errors.New("the guest has no driver for its keyboard, or has not started it yet")

// CtrlAltDel presses and releases Ctrl, Alt and Del.
func (c *Controller) CtrlAltDel() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.state.keyboard
	if k == nil || !k.scanning || c.state.control&(controlInterrupt|controlDisabled) != controlInterrupt {
		return ErrNoDriver
	}
	k.send(ctrlAltDel...)
	c.deliver()
	return nil
}

// deliver moves a byte of the keyboard's to the data port, when that is free, and
// drives the interrupt line. The lock is held.
func (c *Controller) deliver() {
	k := c.state.keyboard
	if k == nil {
		return
	}
	if !c.state.outputFull && c.state.control&controlDisabled == 0 {
		if v, ok := k.next(c.state.control&controlTranslate != 0); ok {
			c.state.answer(v)
			k.delivered = true
		}
	}
	// The controller's own answers raise no interrupt that a driver waits for.
	c.line.Set(c.state.outputFull && k.delivered && c.state.control&controlInterrupt != 0)
}

// Data is the port of data bytes.
func (c *Controller) Data() devices.Device { return dataPort{c} }

// Command is the port of commands and, read, of the status. On a PC it is the
// fourth after the data port; those between belong to others.
func (c *Controller) Command() devices.Device { return commandPort{c} }

type dataPort struct{ c *Controller }

func (p dataPort) Read(_ uint64, data []byte) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	data[0] = p.c.state.output
	p.c.state.outputFull = false
	if k := p.c.state.keyboard; k != nil {
		k.delivered = false
		p.c.line.Set(false) // so that the next byte is an edge
		p.c.deliver()
	}
}

func (p dataPort) Write(_ uint64, data []byte) { p.c.write((*state).data, data[0]) }

type commandPort struct{ c *Controller }

func (p commandPort) Read(_ uint64, data []byte) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	data[0] = statusSystem | statusUnlocked
	if p.c.state.outputFull {
		data[0] |= statusOutputFull
	}
	if p.c.state.wasCommand {
		data[0] |= statusCommand
	}
}

func (p commandPort) Write(_ uint64, data []byte) { p.c.write((*state).execute, data[0]) }

// write takes a byte, which may reset the machine: without the lock, for the
// callback may use the device.
func (c *Controller) write(take func(*state, uint8) (reset bool), v uint8) {
	c.mu.Lock()
	reset := take(&c.state, v)
	c.deliver()
	c.mu.Unlock()
	if reset {
		c.reset()
	}
}

// execute takes a command and reports whether it resets the machine.
func (s *state) execute(command uint8) (reset bool) {
	s.command, s.wasCommand = 0, true
	switch command {
	case cmdReadControl:
		s.answer(s.control)
	case cmdSelfTest:
		s.answer(selfTestPassed)
	case cmdTestKeyboard:
		if s.keyboard != nil {
			s.answer(testPassed)
		} else {
			s.answer(noDevice)
		}
	case cmdTestMouse:
		s.answer(noDevice)
	case cmdDisable:
		s.control |= controlDisabled
	case cmdEnable:
		s.control &^= controlDisabled
	case cmdReadOutput:
		s.answer(outputReset | outputA20)
	case cmdWriteControl, cmdWriteOutput, cmdEcho, cmdEchoMouse:
		s.command = command
	default:
		return command >= cmdPulse && command&outputReset == 0
	}
	return false
}

// data takes a byte at the data port: the operand of a command, or a command of
// the keyboard's.
func (s *state) data(v uint8) (reset bool) {
	command := s.command
	s.command, s.wasCommand = 0, false
	switch command {
	case cmdWriteControl:
		s.control = v
	case cmdWriteOutput:
		return v&outputReset == 0
	case cmdEcho, cmdEchoMouse:
		// The status never says that a byte is the mouse's, so Linux sees at
		// once that there is none. Unanswered, it would wait half a second.
		s.answer(v)
	case 0:
		if s.keyboard != nil {
			s.control &^= controlDisabled // to send to the keyboard enables it
			s.keyboard.write(v)
		}
	}
	return false
}

// answer is the controller's own, unless deliver makes it the keyboard's.
func (s *state) answer(v uint8) {
	s.output, s.outputFull = v, true
	if s.keyboard != nil {
		s.keyboard.delivered = false
	}
}
