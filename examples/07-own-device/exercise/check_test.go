//go:build amd64 && (solutions || lesson)

package exercise

import (
	"sync"
	"testing"
)

// line remembers its level.
type line struct{ up bool }

func (l *line) Set(level bool) { l.up = level }

func TestEgg(t *testing.T) {
	l := &line{}
	e := NewEgg(l)
	left := func() byte {
		data := []byte{0xff}
		e.Read(0, data)
		return data[0]
	}
	tick := func() { e.Write(1, []byte{0}) }
	tick()
	if l.up || left() != 0 {
		t.Errorf("a tick of none: line %v, %d left", l.up, left())
	}
	e.Write(0, []byte{3})
	for want := 2; want >= 0; want-- {
		tick()
		if got := left(); int(got) != want || l.up != (want == 0) {
			t.Errorf("line %v, %d left; want %d", l.up, got, want)
		}
	}
	tick()
	if !l.up {
		t.Error("the line has fallen by itself")
	}
	e.Write(0, []byte{2})
	if l.up || left() != 2 {
		t.Errorf("wound up again: line %v, %d left", l.up, left())
	}
	e.Write(0, []byte{200})
	var ticks sync.WaitGroup
	for range 20 {
		ticks.Go(func() {
			for range 10 {
				tick()
			}
		})
	}
	ticks.Wait()
	if !l.up || left() != 0 {
		t.Errorf("200 ticks of 20 processors: line %v, %d left", l.up, left())
	}
}

// memory is a device of one register a byte.
type memory [8]byte

func (m *memory) Read(offset uint64, data []byte)  { copy(data, m[min(offset, 8):]) }
func (m *memory) Write(offset uint64, data []byte) { copy(m[min(offset, 8):], data) }

func TestPair(t *testing.T) {
	var a, b memory
	p := &Pair{First: &a, Second: &b, Split: 4}
	p.Write(1, []byte{1})
	p.Write(4, []byte{2, 3})
	p.Write(7, []byte{4})
	if a != (memory{1: 1}) || b != (memory{0: 2, 1: 3, 3: 4}) {
		t.Errorf("the devices have %v and %v", a, b)
	}
	data := make([]byte, 2)
	if p.Read(4, data); data[0] != 2 || data[1] != 3 {
		t.Errorf("reading the second: %v", data)
	}
}
