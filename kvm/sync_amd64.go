package kvm

// Offsets into struct kvm_run of what KVM_CAP_SYNC_REGS adds, from
// <linux/kvm.h>.
const (
	runValidRegs = 288
	runSyncRegs  = 304 // struct kvm_sync_regs: the general-purpose registers come first
)

// syncRegs is the bit of kvm_valid_regs for the general-purpose registers.
const syncRegs = 1 << 0

// SyncRegs has each Run from now on leave the general-purpose registers where
// [Exit.Regs] finds them, without a call into the kernel. The VM must have
// [CapSyncRegs]. KVM api.rst §5, kvm_valid_regs.
func (c *VCPU) SyncRegs(on bool) {
	var set uint64
	if on {
		set = syncRegs
	}
	le.PutUint64(c.run[runValidRegs:], set)
}

// Regs are the general-purpose registers at the exit, after [VCPU.SyncRegs].
func (e Exit) Regs() Regs {
	r := e.run[runSyncRegs:][:18*8]
	word := func(i int) uint64 { return le.Uint64(r[8*i:]) }
	return Regs{
		RAX: word(0), RBX: word(1), RCX: word(2), RDX: word(3),
		RSI: word(4), RDI: word(5), RSP: word(6), RBP: word(7),
		R8: word(8), R9: word(9), R10: word(10), R11: word(11),
		R12: word(12), R13: word(13), R14: word(14), R15: word(15),
		RIP: word(16), RFLAGS: word(17),
	}
}
