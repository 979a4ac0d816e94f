package boot

import (
	"bytes"

	"vmm/memory"
)

// jumpRAX is JMP RAX, FF /4. Intel SDM vol. 2, "JMP".
var jumpRAX = []byte{0xff, 0xe0}

// handoverSize is how far behind the payload Handover looks, in bytes.
const handoverSize = 4096

// Unpacks reports whether the kernel unpacks itself, in the guest.
func (e Entry) Unpacks() bool { return e.Unpacker != 0 }

// Handover finds the instruction with which the code that unpacks a kernel in
// the guest jumps to it, JMP RAX: guest-physical, and false where there is none.
// It is the first of its kind behind the payload, where .text begins, in
// arch/x86/boot/compressed/head_64.S. That code moves itself first, with
// whatever has been written over it, to the end of its memory.
func (e Entry) Handover(mem *memory.Guest) (uint64, bool) {
	if !e.Unpacks() {
		return 0, false
	}
	b, err := mem.Slice(e.Unpacker, handoverSize)
	if err != nil {
		return 0, false
	}
	i := bytes.Index(b, jumpRAX)
	return e.Unpacker + uint64(i), i >= 0
}
