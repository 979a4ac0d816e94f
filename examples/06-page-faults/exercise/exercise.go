//go:build amd64 && !solutions

// Package exercise is for lesson 6: page tables and the dirty log.
package exercise

// Walk translates a linear address as a processor in long mode does: through the
// tables that CR3 leads to, in ram, whose first byte is at guest-physical address
// 0. Pages of 4 KiB, 2 MiB and 1 GiB. What is not present, or not in ram, is not
// ok. Intel SDM vol. 3 §4.5.
func Walk(ram []byte, cr3, linear uint64) (physical uint64, ok bool) {
	return 0, false
}

// Dirty lists the pages whose bits are set in a bitmap of KVM_GET_DIRTY_LOG.
func Dirty(bitmap []uint64) []int {
	return nil
}
