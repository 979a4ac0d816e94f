// Package rtc is the clock of a PC, a Motorola MC146818 with battery-backed
// memory. The time is the host's, in UTC; the guest may set it, and nothing
// comes of that.
package rtc

import (
	"sync"
	"time"

	"vmm/devices"
)

// Size is the number of ports: index and data.
const Size = 2

const (
	regIndex = 0
	regData  = 1
)

// Century is the byte of the memory that holds the century, as the ACPI FADT
// is to say.
const Century = 0x32

// Bytes of the memory. MC146818 data sheet, "Address Map".
const (
	byteSeconds = 0x00
	byteMinutes = 0x02
	byteHours   = 0x04
	byteWeekday = 0x06
	byteDay     = 0x07
	byteMonth   = 0x08
	byteYear    = 0x09
	byteA       = 0x0a
	byteB       = 0x0b
	byteC       = 0x0c
	byteD       = 0x0d

	memorySize = 128
)

// Bits of registers A, B and D, and the divider in A for a 32768 Hz crystal.
const (
	aDivider = 0x26
	aUpdate  = 1 << 7 // update in progress
	b24Hour  = 1 << 1
	bBinary  = 1 << 2
	bSet     = 1 << 7 // the guest sets the time: no updates
	dValid   = 1 << 7 // the battery is good

	pm = 1 << 7 // of the hours, in 12-hour mode
)

// Clock is the clock and its memory.
type Clock struct {
	now func() time.Time

	mu    sync.Mutex
	state state
}

type state struct {
	index  uint8
	memory [memorySize]uint8
}

// New returns a clock that shows what now says; nil stands for the host's
// time.
func New(now func() time.Time) *Clock {
	if now == nil {
		now = time.Now
	}
	c := &Clock{now: now}
	c.state.memory[byteA] = aDivider
	c.state.memory[byteB] = b24Hour
	return c
}

var _ devices.Device = (*Clock)(nil)

// Read implements devices.Device.
func (c *Clock) Read(offset uint64, data []byte) { devices.EachByte(offset, data, c.read) }

// Write implements devices.Device. A write of two bytes sets the index and then
// the byte that it stands for.
func (c *Clock) Write(offset uint64, data []byte) { devices.EachByte(offset, data, c.write) }

func (c *Clock) read(offset uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if offset != regData {
		return // the index cannot be read back
	}
	s := &c.state
	t := c.now().UTC()
	switch s.index {
	case byteSeconds:
		data[0] = s.number(t.Second())
	case byteMinutes:
		data[0] = s.number(t.Minute())
	case byteHours:
		data[0] = s.hours(t.Hour())
	case byteWeekday:
		data[0] = s.number(int(t.Weekday()) + 1) // Sunday is 1
	case byteDay:
		data[0] = s.number(t.Day())
	case byteMonth:
		data[0] = s.number(int(t.Month()))
	case byteYear:
		data[0] = s.number(t.Year() % 100)
	case Century:
		data[0] = s.number(t.Year() / 100)
	case byteA:
		data[0] = s.memory[byteA]
		// "Update in progress" while the next second is near, so that what a
		// guest reads after it saw the bit clear belongs together.
		if s.memory[byteB]&bSet == 0 && t.Nanosecond() >= int(time.Second-updateTime) {
			data[0] |= aUpdate
		}
	case byteC:
		data[0] = 0 // no interrupt has happened
	case byteD:
		data[0] = dValid
	default:
		data[0] = s.memory[s.index]
	}
}

// updateTime is how long before an update the chip announces it: 244 µs, and
// here as long again as a vCPU may have to wait for its host.
const updateTime = 2 * time.Millisecond

func (c *Clock) write(offset uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	switch offset {
	case regIndex:
		s.index = data[0] & (memorySize - 1) // bit 7 masks NMIs on a PC
	case regData:
		switch s.index {
		case byteC, byteD: // read-only
		case byteA:
			s.memory[byteA] = data[0] &^ aUpdate
		default:
			s.memory[s.index] = data[0]
		}
	}
}

// number is n as register B says: binary, or two decimal digits.
func (s *state) number(n int) uint8 {
	if s.memory[byteB]&bBinary != 0 {
		return uint8(n)
	}
	return uint8(n/10<<4 | n%10)
}

func (s *state) hours(h int) uint8 {
	if s.memory[byteB]&b24Hour != 0 {
		return s.number(h)
	}
	v := s.number((h+11)%12 + 1)
	if h >= 12 {
		v |= pm
	}
	return v
}
