package rtc

import (
	"encoding/json"
	"fmt"

	"vmm/devices"
)

var _ devices.Stateful = (*Clock)(nil)

// saved is the state of a clock, as State has it. The time is the host's.
type saved struct {
	Index  uint8  `json:"index"`
	Memory []byte `json:"memory"`
}

// State implements devices.Stateful.
func (c *Clock) State() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return saved{c.state.index, append([]byte(nil), c.state.memory[:]...)}
}

// SetState implements devices.Stateful.
func (c *Clock) SetState(data json.RawMessage) error {
	var s saved
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	if len(s.Memory) != memorySize {
		return fmt.Errorf("memory: %d bytes instead of %d", len(s.Memory), memorySize)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state{s.Index & (memorySize - 1), [memorySize]uint8(s.Memory)}
	return nil
}
