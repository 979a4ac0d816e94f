package serial

import (
	"encoding/json"
	"fmt"

	"vmm/devices"
)

var _ devices.Stateful = (*Port)(nil)

// saved is the state of a port, as State has it.
type saved struct {
	IER             uint8    `json:"ier"`
	LCR             uint8    `json:"lcr"`
	MCR             uint8    `json:"mcr"`
	SCR             uint8    `json:"scr"`
	Divisor         [2]uint8 `json:"divisor"`
	FIFO            bool     `json:"fifo"`
	Trigger         int      `json:"trigger"`
	Overrun         bool     `json:"overrun"`
	ModemLines      uint8    `json:"modem_lines"`
	ModemDelta      uint8    `json:"modem_delta"`
	Stopped         bool     `json:"stopped"`
	TransmitPending bool     `json:"transmit_pending"`
	Received        []byte   `json:"received"`
	Polls           int      `json:"polls"`
	Probing         bool     `json:"probing"`
}

// State implements devices.Stateful.
func (p *Port) State() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	return saved{
		s.ier, s.lcr, s.mcr, s.scr, s.divisor, s.fifoOn, s.trigger, s.overrun, s.modemLines, s.modemDelta,
		s.stopped, s.transmitPending, append([]byte(nil), s.received[:s.count]...), s.polls, s.probing,
	}
}

// SetState implements devices.Stateful. It drives the interrupt line.
func (p *Port) SetState(data json.RawMessage) error {
	var s saved
	if err := devices.Decode(data, &s); err != nil {
		return err
	}
	if len(s.Received) > fifoSize {
		return fmt.Errorf("received: %d bytes are more than the FIFO holds", len(s.Received))
	}
	if s.Trigger < 1 || s.Trigger > fifoSize {
		return fmt.Errorf("trigger: %d bytes", s.Trigger)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state{
		ier: s.IER & ierMask, lcr: s.LCR, mcr: s.MCR & mcrMask, scr: s.SCR, divisor: s.Divisor, fifoOn: s.FIFO, trigger: s.Trigger,
		overrun: s.Overrun, modemLines: s.ModemLines, modemDelta: s.ModemDelta, stopped: s.Stopped,
		transmitPending: s.TransmitPending, count: len(s.Received), polls: max(s.Polls, 0), probing: s.Probing,
	}
	copy(p.state.received[:], s.Received)
	p.update()
	p.signalReady()
	return nil
}
