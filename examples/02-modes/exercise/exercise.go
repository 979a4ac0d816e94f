//go:build amd64 && !solutions

// Package exercise is for lesson 2: descriptors and page tables.
package exercise

// Descriptor is a segment descriptor: code or data at privilege level 0, present,
// with its base, and its limit in pages (G is set). Of code, long says whether it
// is 64-bit code; what is not, is 32-bit code. Intel SDM vol. 3 §3.4.5: figure
// 3-8, and tables 3-1 for the types. Set the accessed bit, as in example 02.
func Descriptor(base, limit uint32, code, long bool) uint64 {
	return 0
}

// Map writes page tables into ram, whose first byte is at guest-physical address
// 0, and returns what goes into CR3. They map the gigabyte of linear addresses
// from linear on, which is a multiple of a gigabyte, to the physical addresses
// from 0 on, in pages of 2 MiB, present and writable. The tables lie at 0x1000,
// 0x2000 and 0x3000. Intel SDM vol. 3 §4.5.
func Map(ram []byte, linear uint64) (cr3 uint64) {
	return 0
}
