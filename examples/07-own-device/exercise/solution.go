//go:build amd64 && solutions

package exercise

import (
	"sync"

	"vmm/devices"
)

// Egg is an egg timer.
type Egg struct {
	line devices.Line

	mu   sync.Mutex
	left byte
}

// NewEgg returns a timer that drives line.
func NewEgg(line devices.Line) *Egg { return &Egg{line: line} }

// Read implements devices.Device.
func (e *Egg) Read(offset uint64, data []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if offset == 0 {
		data[0] = e.left
	}
}

// Write implements devices.Device.
func (e *Egg) Write(offset uint64, data []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case offset == 0:
		e.left = data[0]
		e.line.Set(false)
	case offset == 1 && e.left > 0:
		if e.left--; e.left == 0 {
			e.line.Set(true)
		}
	}
}

// Pair is two devices in one range.
type Pair struct {
	First, Second devices.Device
	Split         uint64
}

// Read implements devices.Device.
func (p *Pair) Read(offset uint64, data []byte) {
	if offset < p.Split {
		p.First.Read(offset, data)
	} else {
		p.Second.Read(offset-p.Split, data)
	}
}

// Write implements devices.Device.
func (p *Pair) Write(offset uint64, data []byte) {
	if offset < p.Split {
		p.First.Write(offset, data)
	} else {
		p.Second.Write(offset-p.Split, data)
	}
}
