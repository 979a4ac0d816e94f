//go:build amd64 && !solutions

// Package exercise is for lesson 4: what the interrupt controllers are told.
package exercise

// Gate is an interrupt gate of a 64-bit IDT: to handler, in the code segment with
// selector 8, privilege level 0, no stack of its own. Intel SDM vol. 3 §6.14.1.
func Gate(handler uint64) [16]byte {
	return [16]byte{}
}

// Redirection is an entry of the I/O APIC: a fixed interrupt with a vector to the
// processor with an APIC ID, active high; level says whether it is triggered by
// level, and masked whether it is held back. 82093AA data sheet §3.2.4.
func Redirection(vector, apicID uint8, level, masked bool) uint64 {
	return 0
}
