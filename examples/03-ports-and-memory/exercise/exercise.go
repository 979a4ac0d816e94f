//go:build amd64 && !solutions

// Package exercise is for lesson 3: devices.
package exercise

// Latch is a device with four registers of a byte each, at offsets 0 to 3: what is
// written there is read back. An access may be 1, 2 or 4 bytes wide, and covers as
// many registers. Beyond the last, reads are ones and writes are lost.
type Latch struct {
}

// Read fills data with what the guest reads at offset.
func (l *Latch) Read(offset uint64, data []byte) {}

// Write takes what the guest wrote at offset.
func (l *Latch) Write(offset uint64, data []byte) {}

// Screen is a device of 80 characters in memory. The guest writes characters,
// anywhere and of any width; String is the line, with spaces where nothing has
// been written.
type Screen struct {
}

// Read fills data with what the guest reads at offset.
func (s *Screen) Read(offset uint64, data []byte) {}

// Write takes what the guest wrote at offset.
func (s *Screen) Write(offset uint64, data []byte) {}

func (s *Screen) String() string { return "" }
