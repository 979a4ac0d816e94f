//go:build amd64 && solutions

package exercise

import (
	"encoding/binary"
)

// Gate spreads the handler's address over three fields.
func Gate(handler uint64) (g [16]byte) {
	le := binary.LittleEndian
	le.PutUint16(g[0:], uint16(handler))
	le.PutUint16(g[2:], 8)
	le.PutUint16(g[4:], 0x8e00) // present, an interrupt gate
	le.PutUint16(g[6:], uint16(handler>>16))
	le.PutUint32(g[8:], uint32(handler>>32))
	return g
}

// Redirection puts the APIC ID on top.
func Redirection(vector, apicID uint8, level, masked bool) uint64 {
	e := uint64(vector) | uint64(apicID)<<56
	if level {
		e |= 1 << 15
	}
	if masked {
		e |= 1 << 16
	}
	return e
}
