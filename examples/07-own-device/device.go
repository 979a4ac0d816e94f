//go:build amd64

package main

import (
	"slices"
	"sync"

	"vmm/devices"
)

// Reverser is a device that turns words around. Its registers, a byte each:
//
//	0  data: written, a byte of the word; read, a byte of the answer
//	1  written, turns the word around; read, how many bytes of the answer are
//	   left, and lowers the interrupt line
//
// The line is raised when an answer is ready.
type Reverser struct {
	line devices.Line

	mu     sync.Mutex // any processor may come at any time
	word   []byte
	answer []byte
}

// Size is the number of ports that it occupies. Where, it does not know.
const Size = 2

const (
	regData = iota
	regControl
)

// maxWord is how long a word may be: what a guest makes a device keep has to have
// a bound.
const maxWord = 64

// NewReverser returns a reverser that drives line.
func NewReverser(line devices.Line) *Reverser { return &Reverser{line: line} }

var _ devices.Device = (*Reverser)(nil)

// Read implements devices.Device.
func (r *Reverser) Read(offset uint64, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch offset {
	case regData:
		data[0] = 0
		if len(r.answer) > 0 {
			data[0], r.answer = r.answer[0], r.answer[1:]
		}
	case regControl:
		data[0] = byte(len(r.answer))
		r.line.Set(false)
	}
}

// Write implements devices.Device.
func (r *Reverser) Write(offset uint64, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch offset {
	case regData:
		if len(r.word) < maxWord {
			r.word = append(r.word, data[0])
		}
	case regControl:
		slices.Reverse(r.word)
		r.answer, r.word = r.word, nil
		r.line.Set(true)
	}
}
