package machine

import (
	"errors"
	"fmt"
	"time"
)

// Paused reports whether the processors are at rest, for longer than it takes to
// look at one.
func (m *Machine) Paused() bool { return hold(m.paused.Load())&(byUser|byDebugger) != 0 }

// SetLink plugs in the cable of a network card, or unplugs it; cards count from 0.
func (m *Machine) SetLink(card int, up bool) error {
	if card < 0 || card >= len(m.nets) {
		return fmt.Errorf("there is no network card %d: the machine has %d, and they count from 0", card, len(m.nets))
	}
	m.nets[card].SetLink(up)
	return nil
}

var errNoBalloon = errors.New("the machine has no balloon; start it with --balloon")

// errBalloon is a balloon larger than the machine's memory; both in bytes.
func errBalloon(size, memory uint64) error {
	return fmt.Errorf("a balloon of %d bytes: the machine has %d; choose a smaller one", size, memory)
}

// SetBalloon sets how much of its memory the guest lends back, in bytes.
func (m *Machine) SetBalloon(size uint64) error {
	if m.balloon == nil {
		return errNoBalloon
	}
	if all := m.memory.Size(); size > all {
		return errBalloon(size, all)
	}
	m.balloon.SetSize(size)
	return nil
}

// BalloonSize is how much memory is in the balloon: what was asked for and what
// the guest says, in bytes. It is false without a balloon.
func (m *Machine) BalloonSize() (target, actual uint64, ok bool) {
	if m.balloon == nil {
		return 0, 0, false
	}
	target, actual = m.balloon.Size()
	return target, actual, true
}

// statsTimeout is how long a guest may take to say how it uses its memory.
const statsTimeout = time.Second

// GuestMemory is how the guest says that it uses its memory; nil when it does
// not. A paused machine is not asked.
func (m *Machine) GuestMemory() map[string]uint64 {
	if m.balloon == nil || m.Paused() {
		return nil
	}
	return m.balloon.Stats(statsTimeout)
}
