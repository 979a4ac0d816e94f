package i8042

import (
	"encoding/json"

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
}

// State implements devices.Stateful.
func (c *Controller) State() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	return saved{s.control, s.output, s.outputFull, s.command, s.wasCommand}
}

// SetState implements devices.Stateful.
func (c *Controller) SetState(data json.RawMessage) error {
	var s saved
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state{s.Control, s.Output, s.OutputFull, s.Command, s.WasCommand}
	return nil
}
