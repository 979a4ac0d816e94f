package i8042

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"vmm/devices"
)

var _ devices.Stateful = (*Controller)(nil)

// saved is the state of a controller, as State has it.
type saved struct {
	Control    uint8 `json:"control"`
	Output     uint8 `json:"output"`
	OutputFull bool  `json:"output_full"`
	Command    uint8 `json:"command"`
	WasCommand bool  `json:"was_command"`
	// Keyboard is missing where there is none.
	Keyboard *savedKeyboard `json:"keyboard,omitempty"`
}

type savedKeyboard struct {
	Scanning  bool    `json:"scanning"`
	Command   uint8   `json:"command"`
	Pending   []uint8 `json:"pending"`
	Delivered bool    `json:"delivered"`
}

// State implements devices.Stateful.
func (c *Controller) State() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	out := saved{s.control, s.output, s.outputFull, s.command, s.wasCommand, nil}
	if k := s.keyboard; k != nil {
		out.Keyboard = &savedKeyboard{k.scanning, k.command, slices.Clone(k.pending), k.delivered}
	}
	return out
}

// SetState implements devices.Stateful. It drives the interrupt line.
func (c *Controller) SetState(data json.RawMessage) error {
	var s saved
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	k := s.Keyboard
	if (k != nil) != (c.line != nil) {
		return errors.New("i8042: of the saved machine and this one, only one has a keyboard")
	}
	if k != nil && len(k.Pending) > keyBuffer {
		return fmt.Errorf("i8042: the keyboard has %d bytes to send; it keeps at most %d", len(k.Pending), keyBuffer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state{s.Control, s.Output, s.OutputFull, s.Command, s.WasCommand, nil}
	if k != nil {
		c.state.keyboard = &keyboard{k.Scanning, k.Command, k.Pending, k.Delivered}
	}
	c.deliver()
	return nil
}
