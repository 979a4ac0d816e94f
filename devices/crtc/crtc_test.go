package crtc

import "testing"

// What xv6 does for a character: it reads the cursor's place, and moves it.
func TestCursor(t *testing.T) {
	c := New()
	in := func() byte {
		b := []byte{0xff}
		c.Read(regData, b)
		return b[0]
	}
	cursor := func() int {
		c.Write(regIndex, []byte{14})
		high := in()
		c.Write(regIndex, []byte{15})
		return int(high)<<8 | int(in())
	}
	if at := cursor(); at != 0 {
		t.Errorf("the cursor begins at %d", at)
	}
	c.Write(regIndex, []byte{14, 0x07})
	c.Write(regIndex, []byte{15, 0xcf})
	if at := cursor(); at != 25*80-1 {
		t.Errorf("the cursor is at %d; want the end of the screen", at)
	}
	if r := c.Register(regData, false); r != "R15" || c.Meaning(r, false, 0) == "" {
		t.Errorf("the register is called %q", r)
	}
}

// Registers that the chip does not have keep nothing.
func TestOtherRegisters(t *testing.T) {
	c := New()
	for index := range 256 {
		c.Write(regIndex, []byte{byte(index), 0x5a})
		got := []byte{0, 0}
		c.Read(regIndex, got)
		want := byte(0)
		if index < registers {
			want = 0x5a
		}
		if got[0] != byte(index) || got[1] != want {
			t.Errorf("R%d reads as %#x, index %d", index, got[1], got[0])
		}
	}
}
