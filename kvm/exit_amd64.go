package kvm

// Debug is a debugging event: struct kvm_debug_exit_arch.
type Debug struct {
	Exception uint32 // 1 (#DB) or 3 (#BP)
	PC        uint64 // linear address, RIP plus the base of CS
	DR6, DR7  uint64 // Intel SDM vol. 3 §18.2
}

// Debug decodes [ExitDebug].
func (e Exit) Debug() Debug {
	u := e.run[runUnion:]
	return Debug{Exception: le.Uint32(u), PC: le.Uint64(u[8:]), DR6: le.Uint64(u[16:]), DR7: le.Uint64(u[24:])}
}
