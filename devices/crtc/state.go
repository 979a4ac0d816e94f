package crtc

import (
	"encoding/json"

	"vmm/devices"
)

var _ devices.Stateful = (*Controller)(nil)

// saved is the state of a controller, as State has it.
type saved struct {
	Index     uint8            `json:"index"`
	Registers [registers]uint8 `json:"registers"`
}

// State implements devices.Stateful.
func (c *Controller) State() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return saved{c.state.index, c.state.reg}
}

// SetState implements devices.Stateful.
func (c *Controller) SetState(data json.RawMessage) error {
	var s saved
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state{s.Index, s.Registers}
	return nil
}
