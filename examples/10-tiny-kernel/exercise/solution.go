//go:build amd64 && solutions

package exercise

import (
	"encoding/binary"
)

// StartInfo is what of struct hvm_start_info a kernel without modules needs.
type StartInfo struct {
	Cmdline   uint64
	RSDP      uint64
	MemoryMap uint64
	Entries   uint32
}

// Decode reads the fields at their offsets.
func Decode(b []byte) (s StartInfo, ok bool) {
	const magic = 0x336e_c578
	le := binary.LittleEndian
	if len(b) < 52 || le.Uint32(b) != magic || le.Uint32(b[4:]) == 0 {
		return s, false
	}
	return StartInfo{Cmdline: le.Uint64(b[24:]), RSDP: le.Uint64(b[32:]), MemoryMap: le.Uint64(b[40:]), Entries: le.Uint32(b[48:])}, true
}

// Count adds up the entries that are RAM.
const Count = `
	uint64_t sum = 0;
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].type == RAM)
			sum += entries[i].size;
	print("RAM in all: ");
	print_hex(sum);
	print("\n");
`
