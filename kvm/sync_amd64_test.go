package kvm

import "testing"

// The registers come with the exit, as KVM_GET_REGS reads them.
func TestSyncRegs(t *testing.T) {
	g := newGuest(t, []byte{
		0xb8, 0x78, 0x56, 0x34, 0x12, // mov $0x12345678, %eax
		0xe7, 0x80, //                   out %eax, $0x80
		0xe7, 0x80,
	})
	n, err := g.vm.CheckExtension(CapSyncRegs)
	check(t, err)
	if n&syncRegs == 0 {
		missing(t, "this host's KVM lacks "+CapSyncRegs.String())
	}
	g.vcpu.SyncRegs(true)
	exit := g.run(g.vcpu)
	got := exit.Regs()
	want, err := g.vcpu.Regs()
	check(t, err)
	if got != want || got.RAX != 0x1234_5678 {
		t.Errorf("registers with the exit: %+v\nKVM_GET_REGS: %+v", got, want)
	}
	g.vcpu.SyncRegs(false)
	g.run(g.vcpu)
}
