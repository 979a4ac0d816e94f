package rtc

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func read(c *Clock, index uint8) uint8 {
	c.Write(regIndex, []byte{index})
	data := []byte{0xff}
	c.Read(regData, data)
	return data[0]
}

func write(c *Clock, index, v uint8) {
	c.Write(regIndex, []byte{index})
	c.Write(regData, []byte{v})
}

func at(t time.Time) *Clock { return New(func() time.Time { return t }) }

// shown is the time as the guest reads it: century, year, month, day, weekday,
// hours, minutes, seconds.
type shown [8]uint8

func show(c *Clock) (s shown) {
	for i, index := range []uint8{0x32, 9, 8, 7, 6, 4, 2, 0} {
		s[i] = read(c, index)
	}
	return s
}

func TestTime(t *testing.T) {
	const decimal, h24, h12, binary = 0, 1 << 1, 0, 1 << 2
	day := func(hour int) time.Time { return time.Date(2026, time.November, 23, hour, 58, 59, 0, time.UTC) }
	tests := []struct {
		name string
		b    uint8 // register B
		t    time.Time
		want shown
	}{
		{"decimal", decimal | h24, day(23), shown{0x20, 0x26, 0x11, 0x23, 2, 0x23, 0x58, 0x59}},
		{"binary", binary | h24, day(23), shown{20, 26, 11, 23, 2, 23, 58, 59}},
		{"midnight is 12 AM", decimal | h12, day(0), shown{0x20, 0x26, 0x11, 0x23, 2, 0x12, 0x58, 0x59}},
		{"11 AM", decimal | h12, day(11), shown{0x20, 0x26, 0x11, 0x23, 2, 0x11, 0x58, 0x59}},
		{"noon is 12 PM", decimal | h12, day(12), shown{0x20, 0x26, 0x11, 0x23, 2, 0x92, 0x58, 0x59}},
		{"11 PM, binary", binary | h12, day(23), shown{20, 26, 11, 23, 2, 0x8b, 58, 59}},
		{"Sunday, another century", decimal | h24, time.Date(1999, time.January, 3, 0, 0, 0, 0, time.UTC), shown{0x19, 0x99, 1, 3, 1, 0, 0, 0}},
		{"Saturday", decimal | h24, time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC), shown{0x20, 0, 1, 1, 7, 0, 0, 0}},
		{"a host east of Greenwich", decimal | h24, time.Date(2027, time.January, 1, 1, 0, 0, 0, time.FixedZone("", 2*3600)), shown{0x20, 0x26, 0x12, 0x31, 5, 0x23, 0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := at(tt.t)
			write(c, byteB, tt.b)
			if diff := cmp.Diff(tt.want, show(c)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFirmwareLeavesDecimalAnd24Hours(t *testing.T) {
	if b := read(New(nil), byteB); b != b24Hour {
		t.Errorf("register B is %#x; want %#x", b, b24Hour)
	}
}

func TestHostTime(t *testing.T) {
	c := New(nil)
	write(c, byteB, b24Hour|bBinary)
	before := time.Now().UTC()
	year := int(read(c, Century))*100 + int(read(c, byteYear))
	if after := time.Now().UTC(); year < before.Year() || year > after.Year() {
		t.Errorf("the year is %d; want %d", year, after.Year())
	}
}

func TestUpdateInProgress(t *testing.T) {
	second := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		b    uint8
		t    time.Time
		want uint8
	}{
		{"a second has begun", b24Hour, second, aDivider},
		{"amid a second", b24Hour, second.Add(time.Second / 2), aDivider},
		{"244 µs before the next, as the chip says", b24Hour, second.Add(time.Second - 244*time.Microsecond), aDivider | aUpdate},
		{"the last moment", b24Hour, second.Add(time.Second - 1), aDivider | aUpdate},
		{"the guest has stopped updates", b24Hour | bSet, second.Add(time.Second - 1), aDivider},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := at(tt.t)
			write(c, byteB, tt.b)
			if got := read(c, byteA); got != tt.want {
				t.Errorf("register A is %#x; want %#x", got, tt.want)
			}
		})
	}
}

// What a guest reads after it saw no update in progress belongs together, if
// it takes no longer than the announcement.
func TestConsistentAfterUpdateInProgress(t *testing.T) {
	midnight := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	const access = 10 * time.Microsecond
	for ahead := -5 * time.Millisecond; ahead < time.Millisecond; ahead += 100 * time.Microsecond {
		now := midnight.Add(ahead)
		c := New(func() time.Time { now = now.Add(access); return now })
		if read(c, byteA)&aUpdate != 0 {
			continue
		}
		old := shown{0x20, 0x26, 0x12, 0x31, 5, 0x23, 0x59, 0x59}
		young := shown{0x20, 0x27, 1, 1, 6, 0, 0, 0}
		if got := show(c); got != old && got != young {
			t.Errorf("%v from midnight the clock shows % x", ahead, got)
		}
	}
}

func TestStatusRegisters(t *testing.T) {
	c := New(nil)
	write(c, byteA, 0xa6)
	write(c, byteC, 0xff)
	write(c, byteD, 0)
	tests := []struct {
		name  string
		index uint8
		mask  uint8
		want  uint8
	}{
		{"A, without update in progress", byteA, 0x7f, 0x26},
		{"C: no interrupts", byteC, 0xff, 0},
		{"D: the battery is good", byteD, 0xff, dValid},
	}
	for _, tt := range tests {
		if got := read(c, tt.index) & tt.mask; got != tt.want {
			t.Errorf("register %s: %#x; want %#x", tt.name, got, tt.want)
		}
	}
}

func TestSettingTheTimeDoesNothing(t *testing.T) {
	c := at(time.Date(2026, time.November, 23, 1, 2, 3, 0, time.UTC))
	want := show(c)
	for _, index := range []uint8{0, 2, 4, 6, 7, 8, 9, Century} {
		write(c, index, 0x11)
	}
	if diff := cmp.Diff(want, show(c)); diff != "" {
		t.Error(diff)
	}
}

func TestMemory(t *testing.T) {
	c := New(nil)
	for index := uint8(0x0e); index < memorySize; index++ {
		if index != Century {
			write(c, index, ^index)
		}
	}
	for index := uint8(0x0e); index < memorySize; index++ {
		if got := read(c, index); index != Century && got != ^index {
			t.Errorf("byte %#x is %#x; want %#x", index, got, ^index)
		}
	}
	if got := read(c, 0x80|0x40); got != ^uint8(0x40) {
		t.Errorf("with NMIs masked, byte 0x40 is %#x; want %#x", got, ^uint8(0x40))
	}
}

func TestIndexCannotBeRead(t *testing.T) {
	c := New(nil)
	c.Write(regIndex, []byte{5})
	data := []byte{0xff}
	if c.Read(regIndex, data); data[0] != 0xff {
		t.Errorf("the index port reads as %#x; want 0xff", data[0])
	}
}
