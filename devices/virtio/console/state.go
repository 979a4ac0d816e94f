package console

import (
	"encoding/json"

	"vmm/devices"
)

var _ devices.Stateful = (*Device)(nil)

// state is what a console keeps: the size of the terminal, which the guest has been
// told.
type state struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// State implements devices.Stateful.
func (d *Device) State() any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return state{le.Uint16(d.space[configColumns:]), le.Uint16(d.space[configRows:])}
}

// SetState implements devices.Stateful.
func (d *Device) SetState(data json.RawMessage) error {
	var s state
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	d.Resize(s.Columns, s.Rows)
	return nil
}
