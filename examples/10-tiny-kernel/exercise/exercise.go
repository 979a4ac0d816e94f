//go:build amd64 && !solutions

// Package exercise is for lesson 10: what a kernel is told, and says.
package exercise

// StartInfo is what of struct hvm_start_info a kernel without modules needs.
type StartInfo struct {
	Cmdline   uint64
	RSDP      uint64
	MemoryMap uint64
	Entries   uint32
}

// Decode reads a start_info: include/xen/interface/hvm/start_info.h. It is not ok
// when the magic number is wrong, the version is 0 (which has no memory map), or b
// too short.
func Decode(b []byte) (s StartInfo, ok bool) { return s, false }

// Count is what to add to print_memory of the kernel in examples/10-tiny-kernel, in
// C, behind its loop: it is to print the RAM of the machine in all, in bytes, as
// "RAM in all: 0x..." and the end of the line. entries and count are the memory map
// and the number of its entries; the functions of kernel.c are there.
const Count = ``
