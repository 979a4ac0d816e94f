package net

import (
	"encoding/json"
	"fmt"

	"vmm/devices"
	"vmm/devices/virtio"
)

// state is what a card keeps: what its driver has set through the control queue, and
// the cable.
type state struct {
	MAC      [6]byte          `json:"mac"`
	Up       bool             `json:"up"`
	Pairs    int              `json:"pairs"`
	Offloads *virtio.Features `json:"offloads,omitempty"`
}

// State implements devices.Stateful.
func (d *Device) State() any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return state{[6]byte(d.space[configMAC:]), d.up.Load(), d.pairs, d.offloads}
}

// SetState implements devices.Stateful. The card's own address, which a reset brings
// back, stays that of its Config.
func (d *Device) SetState(data json.RawMessage) error {
	var s state
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	if s.Pairs < 1 || s.Pairs > len(d.fds) {
		return fmt.Errorf("pairs: %d: the card has %d", s.Pairs, len(d.fds))
	}
	if s.Offloads != nil && *s.Offloads&^offloads != 0 {
		return fmt.Errorf("offloads: %#x: the card does not have all of them", uint64(*s.Offloads))
	}
	d.SetLink(s.Up)
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.space[configMAC:], s.MAC[:])
	d.pairs, d.offloads = s.Pairs, s.Offloads
	return nil
}
