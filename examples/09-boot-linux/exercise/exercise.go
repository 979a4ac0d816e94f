//go:build amd64 && !solutions

// Package exercise is for lesson 9: what a loader works out.
package exercise

// Range is a range of guest-physical addresses that is RAM.
type Range struct{ Start, Size uint64 }

// MemoryMap is the RAM of a PC with size bytes of it, for the kernel: not the
// megabyte's upper part from 0x9fc00 on, nor the gigabyte below 4 GiB, where devices
// are; what does not fit below that lies above 4 GiB. size is at least 2 MiB.
func MemoryMap(size uint64) []Range { return nil }

// InitrdAddr is where an initrd of size bytes goes: as high as possible, at a
// multiple of 4096, with no byte above last (initrd_addr_max of the setup header)
// or beyond the RAM below 4 GiB that a machine with ram bytes has, and none below
// the kernel's end. ok is false where that is impossible.
func InitrdAddr(ram, kernelEnd, size, last uint64) (addr uint64, ok bool) { return 0, false }
