//go:build amd64 && solutions

package exercise

import (
	"encoding/binary"
)

// Descriptor puts the fields where the 80286 and the 80386 left room.
func Descriptor(base, limit uint32, code, long bool) uint64 {
	const accessed, writable, codeType, system, present = 1 << 40, 1 << 41, 1 << 43, 1 << 44, 1 << 47
	const longCode, size32, pages = 1 << 53, 1 << 54, 1 << 55
	d := uint64(limit&0xffff) | uint64(limit>>16&0xf)<<48 | uint64(base&0xff_ffff)<<16 | uint64(base>>24)<<56
	d |= accessed | writable | system | present | pages // writable: of code, readable
	if code {
		d |= codeType
	}
	if code && long {
		return d | longCode
	}
	return d | size32
}

// Map writes a table of each level.
func Map(ram []byte, linear uint64) (cr3 uint64) {
	const pml4, pdpt, pd = 0x1000, 0x2000, 0x3000
	const present, writable, large = 1 << 0, 1 << 1, 1 << 7
	le := binary.LittleEndian
	le.PutUint64(ram[pml4+8*(linear>>39&511):], pdpt|present|writable)
	le.PutUint64(ram[pdpt+8*(linear>>30&511):], pd|present|writable)
	for i := range uint64(512) {
		le.PutUint64(ram[pd+8*i:], i<<21|present|writable|large)
	}
	return pml4
}
