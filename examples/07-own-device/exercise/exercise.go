//go:build amd64 && !solutions

// Package exercise is for lesson 7: devices that interrupt, and devices of devices.
package exercise

import (
	"vmm/devices"
)

// Egg is an egg timer. Register 0 is written with the number of ticks to count,
// and read for how many are left. Each write to register 1, of whatever value, is
// a tick. With the last one the line is raised, and stays so until register 0 is
// written again. A tick when none are left does nothing. A guest may do all of
// this from several processors at a time.
type Egg struct {
	line devices.Line
}

// NewEgg returns a timer that drives line.
func NewEgg(line devices.Line) *Egg { return &Egg{line: line} }

// Read implements devices.Device.
func (e *Egg) Read(offset uint64, data []byte) {}

// Write implements devices.Device.
func (e *Egg) Write(offset uint64, data []byte) {}

// Pair is two devices in one range: accesses below Split are the first's, the
// others the second's, which knows nothing of that: its offsets begin at 0.
type Pair struct {
	First, Second devices.Device
	Split         uint64
}

// Read implements devices.Device.
func (p *Pair) Read(offset uint64, data []byte) {}

// Write implements devices.Device.
func (p *Pair) Write(offset uint64, data []byte) {}
