package i8042

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// line counts the rising edges of an interrupt.
type line struct {
	level bool
	edges int
}

func (l *line) Set(level bool) {
	if level && !l.level {
		l.edges++
	}
	l.level = level
}

// drain reads all that the keyboard has to say, a byte for each interrupt.
func drain(t *testing.T, c *Controller, l *line) []uint8 {
	t.Helper()
	var all []uint8
	for l.level {
		edges := l.edges
		all = append(all, in(c.Data()))
		if l.level && l.edges == edges {
			t.Fatal("the next byte comes without an edge")
		}
	}
	if in(c.Command())&statusOutputFull != 0 {
		t.Error("a byte waits without an interrupt")
	}
	return all
}

func control(c *Controller, v uint8) {
	out(c.Command(), cmdWriteControl)
	out(c.Data(), v)
}

// What a driver asks of a keyboard, and the answers.
func TestKeyboard(t *testing.T) {
	for _, tt := range []struct {
		name    string
		control uint8
		bytes   []uint8
		want    []uint8
	}{
		{"identity", controlInterrupt, []uint8{0xf2}, []uint8{0xfa, 0xab, 0x83}},
		{"identity, translated", controlInterrupt | controlTranslate, []uint8{0xf2}, []uint8{0xfa, 0xab, 0x41}},
		{"reset", controlInterrupt, []uint8{0xff}, []uint8{0xfa, 0xaa}},
		{"LEDs", controlInterrupt, []uint8{0xed, 0x07}, []uint8{0xfa, 0xfa}},
		{"scan code set", controlInterrupt, []uint8{0xf0, 0x00}, []uint8{0xfa, 0xfa, 0x02}},
		{"typematic rate, whose operand is like a command", controlInterrupt, []uint8{0xf3, 0xf2}, []uint8{0xfa, 0xfa}},
		{"echo", controlInterrupt, []uint8{0xee}, []uint8{0xee}},
		{"unknown", controlInterrupt, []uint8{0x17}, []uint8{0xfe}},
		{"a disabled keyboard is enabled by being written to", controlInterrupt | controlDisabled, []uint8{0xf4}, []uint8{0xfa}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &line{}
			c := New(nil, l)
			control(c, tt.control)

			for _, v := range tt.bytes {
				out(c.Data(), v)
			}

			if diff := cmp.Diff(tt.want, drain(t, c, l)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCtrlAltDel(t *testing.T) {
	for _, tt := range []struct {
		name    string
		control uint8
		want    []uint8
	}{
		{"set 2", controlInterrupt, []uint8{0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14}},
		{"set 1", controlInterrupt | controlTranslate, []uint8{0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &line{}
			c := New(nil, l)
			control(c, tt.control)

			err := c.CtrlAltDel()

			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, drain(t, c, l)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Keys are not pressed where nobody would notice.
func TestNobodyListens(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setUp func(*Controller)
	}{
		{"no driver yet", func(*Controller) {}},
		{"no interrupts", func(c *Controller) { control(c, 0) }},
		{"disabled", func(c *Controller) { control(c, controlInterrupt); out(c.Command(), cmdDisable) }},
		{"told not to scan", func(c *Controller) { control(c, controlInterrupt); out(c.Data(), keyDisable) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New(nil, &line{})
			tt.setUp(c)
			if err := c.CtrlAltDel(); !errors.Is(err, ErrNoDriver) {
				t.Errorf("%v; want %v", err, ErrNoDriver)
			}
		})
	}
	if err := New(nil, nil).CtrlAltDel(); !errors.Is(err, ErrNoDriver) {
		t.Errorf("without a keyboard: %v", err)
	}
}

// However often keys are pressed, and whatever a guest does that reads nothing,
// what waits is bounded.
func TestBounded(t *testing.T) {
	l := &line{}
	c := New(nil, l)
	control(c, controlInterrupt)
	for range 100 {
		if err := c.CtrlAltDel(); err != nil {
			t.Fatal(err)
		}
		out(c.Data(), keyIdentify)
	}
	if n := len(drain(t, c, l)); n > keyBuffer+1 {
		t.Errorf("%d bytes; want at most %d", n, keyBuffer+1)
	}
}

// A keyboard in the middle of a sentence goes on with it in another controller.
func TestKeyboardState(t *testing.T) {
	l, again := &line{}, &line{}
	c, restored := New(nil, l), New(nil, again)
	control(c, controlInterrupt)
	if err := c.CtrlAltDel(); err != nil {
		t.Fatal(err)
	}
	in(c.Data())
	text, err := json.Marshal(c.State())
	if err != nil {
		t.Fatal(err)
	}

	if err := restored.SetState(text); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(drain(t, c, l), drain(t, restored, again)); diff != "" {
		t.Error(diff)
	}
	if err := New(nil, nil).SetState(text); err == nil {
		t.Error("a controller without a keyboard takes the state of one with it")
	}
}
