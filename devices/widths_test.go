package devices_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/devices"
	"vmm/devices/i8042"
	"vmm/devices/postcode"
	"vmm/devices/power"
	"vmm/devices/pvpanic"
	"vmm/devices/rtc"
	"vmm/devices/serial"
)

// pc is the part of a PC's ports whose registers are a byte wide, and a record of
// what comes of writing to them.
type pc struct {
	devices.Bus
	happened bytes.Buffer
}

func (p *pc) Set(level bool) { fmt.Fprintf(&p.happened, "interrupt %v;", level) }

func newPC(t *testing.T) *pc {
	t.Helper()
	p := &pc{}
	note := func(what string) func() { return func() { fmt.Fprintf(&p.happened, "%s;", what) } }
	keyboard := i8042.New(note("keyboard reset"), nil)
	for _, d := range []struct {
		base, size uint64
		device     devices.Device
	}{
		{0x3f8, serial.Size, serial.New(p, &p.happened)},
		{0x60, i8042.PortSize, keyboard.Data()},
		{0x64, i8042.PortSize, keyboard.Command()},
		{0x70, rtc.Size, rtc.New(func() time.Time { return time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC) })},
		{0x80, postcode.Size, postcode.New(func(code byte) { fmt.Fprintf(&p.happened, "POST %#x;", code) })},
		{0x505, pvpanic.Size, pvpanic.New(func(e pvpanic.Event) { fmt.Fprintf(&p.happened, "panic %v;", e) })},
		{0x600, power.Size, power.New(note("off"), note("reset"))},
	} {
		if err := p.Insert(d.base, d.size, "", d.device); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// A wide access to ports does what the bytes of it do one after another, wherever
// it begins and ends: as a PC's bridge has it, and QEMU.
func TestWidths(t *testing.T) {
	values := [][]byte{
		{0x00, 0x00, 0x00, 0x00, 0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{0x32, 0x41, 0x83, 0x34, 1, 2, 3, 4}, {0x01, 0xfe, 0x01, 0x01, 0x80, 0x34, 0x07, 0x90},
	}
	for _, around := range []struct{ from, to uint64 }{{0x3f0, 0x408}, {0x58, 0x90}, {0x500, 0x510}, {0x5f8, 0x610}} {
		for _, width := range []uint64{1, 2, 4, 8} {
			wide, narrow := newPC(t), newPC(t)
			for _, value := range values {
				for port := around.from; port < around.to; port++ {
					got := make([]byte, width)
					wide.Read(port, got)
					wide.Write(port, value[:width])
					want := make([]byte, width)
					for i := range width {
						narrow.Read(port+i, want[i:i+1])
					}
					for i := range width {
						narrow.Write(port+i, value[i:i+1])
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%d bytes at %#x read as % x; want % x", width, port, got, want)
					}
				}
			}
			if diff := cmp.Diff(narrow.happened.String(), wide.happened.String()); diff != "" {
				t.Errorf("%d bytes from %#x to %#x (-bytes +wide):\n%s", width, around.from, around.to, diff)
			}
			for port := around.from; port < around.to; port++ {
				got, want := []byte{0}, []byte{0}
				wide.Read(port, got)
				narrow.Read(port, want)
				if got[0] != want[0] {
					t.Errorf("after accesses of %d bytes, port %#x reads as %#x; want %#x", width, port, got[0], want[0])
				}
			}
		}
	}
}

// Wide accesses that software for PCs makes.
func TestWideIdioms(t *testing.T) {
	p := newPC(t)
	p.Write(0x3fb, []byte{0x83})       // latch open, 8N1
	p.Write(0x3f8, []byte{0x01, 0x02}) // a divisor in one go
	divisor := make([]byte, 2)
	p.Read(0x3f8, divisor)
	p.Write(0x3fb, []byte{0x03, 0x0b}) // LCR and MCR
	registers := make([]byte, 4)
	p.Read(0x3fb, registers) // LCR, MCR, LSR, MSR
	p.Write(0x70, []byte{0x32, 0x55})
	p.Write(0x70, []byte{0x20, 0x77}) // index and data in one go
	p.Write(0x70, []byte{0x09})
	year := make([]byte, 2)
	p.Read(0x70, year)
	got := map[string][]byte{"divisor": divisor, "LCR to MSR": registers, "index and year": year}
	want := map[string][]byte{"divisor": {1, 2}, "LCR to MSR": {0x03, 0x0b, 0x60, 0xb0}, "index and year": {0xff, 0x24}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
