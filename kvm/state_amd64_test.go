package kvm

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What is set can be read back.
func TestStateRoundTrips(t *testing.T) {
	g := newGuest(t, []byte{0xf4}, (*VM).CreateIRQChip, (*VM).CreatePIT)
	c := g.vcpu

	regs := Regs{RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RSP: 7, RBP: 8, R8: 9, R15: 10, RIP: codeAddr, RFLAGS: 2}
	roundTrip(t, "registers", regs, c.SetRegs, c.Regs)

	sregs, err := c.Sregs()
	check(t, err)
	sregs.CR2 = 0x1234_5000
	roundTrip(t, "special registers", sregs, c.SetSregs, c.Sregs)

	fpu, err := c.FPU()
	check(t, err)
	fpu.FCW, fpu.XMM[3][5] = 0x37f, 0xaa
	roundTrip(t, "FPU", fpu, c.SetFPU, c.FPU)

	lapic, err := c.LAPIC()
	check(t, err)
	lapic.Regs[0x80], lapic.Regs[0xa0] = 0x20, 0x20 // task and processor priority
	roundTrip(t, "local APIC", lapic, c.SetLAPIC, c.LAPIC)

	debug, err := c.DebugRegs()
	check(t, err)
	debug.DB[0] = 0x1000
	roundTrip(t, "debug registers", debug, c.SetDebugRegs, c.DebugRegs)

	events, err := c.Events()
	check(t, err)
	events.NMI.Masked = 1
	roundTrip(t, "events", events, c.SetEvents, c.Events)

	roundTrip(t, "MP state", MPHalted, c.SetMPState, c.MPState)

	xcrs, err := c.XCRs()
	check(t, err)
	roundTrip(t, "XCRs", xcrs, c.SetXCRs, c.XCRs)

	xsave, err := c.XSave()
	check(t, err)
	check(t, c.SetXSave(xsave))
	c.LockThread()
	// It is still there when the vCPU was entered.
	fpu = xsave.FPU()
	fpu.FCW, fpu.FPR[1][9], fpu.XMM[15][15] = 0x27f, 0x40, 0xbb
	xsave.SetFPU(fpu)
	roundTrip(t, "extended state", fpu, func(FPU) error { return errors.Join(c.SetXSave(xsave), c.CompleteExit()) }, func() (FPU, error) {
		x, err := c.XSave()
		return x.FPU(), err
	})
	c.ClearKick()

	pit, err := g.vm.PIT()
	check(t, err)
	check(t, g.vm.SetPIT(pit))

	chip, err := g.vm.IRQChip(IOAPIC)
	check(t, err)
	check(t, g.vm.SetIRQChip(chip))

	check(t, g.vm.SetClock(ClockData{Clock: 5e9}))
	clock, err := g.vm.Clock()
	check(t, err)
	if clock.Clock < 5e9 || clock.Clock > 6e9 {
		t.Errorf("the clock shows %d ns just after it was set to 5 s", clock.Clock)
	}
	check(t, c.InjectNMI())
}

func roundTrip[T any](t *testing.T, name string, v T, set func(T) error, get func() (T, error)) {
	t.Helper()
	check(t, set(v))
	got, err := get()
	check(t, err)
	if diff := cmp.Diff(v, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("%s (-set +got):\n%s", name, diff)
	}
}

func TestMSRs(t *testing.T) {
	g := newGuest(t, []byte{0xf4})
	const sysenterESP, none = 0x175, 0x1234_5678
	check(t, g.vcpu.SetMSRs([]MSREntry{{Index: sysenterESP, Data: 0xabcd}}))
	got := []MSREntry{{Index: sysenterESP}}
	check(t, g.vcpu.MSRs(got))
	if got[0].Data != 0xabcd {
		t.Errorf("read %#x; want 0xabcd", got[0].Data)
	}
	err := g.vcpu.SetMSRs([]MSREntry{{Index: sysenterESP, Data: 1}, {Index: none}})
	if err == nil || !strings.Contains(err.Error(), "0x12345678") {
		t.Errorf("SetMSRs of a register that does not exist = %v; want an error that names it", err)
	}
	indices, err := g.sys.MSRIndices()
	check(t, err)
	if len(indices) < 10 {
		t.Errorf("only %d registers", len(indices))
	}
}

func TestCPUID(t *testing.T) {
	g := newGuest(t, []byte{0xf4})
	supported, err := g.sys.SupportedCPUID()
	check(t, err)
	for i := range supported {
		if supported[i].Function == 1 {
			supported[i].EBX = supported[i].EBX&0x00ff_ffff | 5<<24
		}
	}
	check(t, g.vcpu.SetCPUID(supported))
	got, err := g.vcpu.CPUID()
	check(t, err)
	for _, e := range got {
		if e.Function == 1 && e.EBX>>24 != 5 {
			t.Errorf("APIC ID %d; want 5", e.EBX>>24)
		}
	}
	if err := g.vcpu.SetCPUID(make([]CPUIDEntry, maxCPUID+1)); err == nil {
		t.Error("more leaves than KVM takes were accepted")
	}
}

func TestTranslate(t *testing.T) {
	g := newGuest(t, []byte{0xf4})
	tr, err := g.vcpu.Translate(0x1234)
	check(t, err)
	if tr.Valid == 0 || tr.Physical != 0x1234 {
		t.Errorf("without paging 0x1234 is %#x (valid %d)", tr.Physical, tr.Valid)
	}
}

func TestTSC(t *testing.T) {
	g := newGuest(t, []byte{0xf4})
	khz, err := g.vcpu.TSCKHz()
	check(t, err)
	if khz < 100_000 {
		t.Errorf("a time-stamp counter at %d kHz", khz)
	}
	check(t, g.vcpu.SetTSCKHz(khz))
}

// An error names the ioctl and what it was about, and wraps the errno.
func TestErrors(t *testing.T) {
	g := newGuest(t, []byte{0xf4})
	_, err := g.vm.CreateVCPU(0)
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "KVM_CREATE_VCPU") {
		t.Errorf("the same vCPU again: %v; want EEXIST from KVM_CREATE_VCPU", err)
	}
	if err := g.vm.SetMemory(1, 0, 0x1001, g.ram); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "slot 1 at 0x1001") {
		t.Errorf("a slot at an odd address: %v; want EINVAL for slot 1 at 0x1001", err)
	}
	if err := g.sys.Require(CapUserMemory, Cap(9999)); err == nil || !strings.Contains(err.Error(), "KVM_CAP_9999") {
		t.Errorf("Require of an unknown capability = %v", err)
	}
	if n, err := g.sys.MaxVCPUs(); err != nil || n < 1 {
		t.Errorf("MaxVCPUs = %d, %v", n, err)
	}
	if n, err := g.vm.CheckExtension(CapIRQChip); err != nil || n == 0 {
		t.Errorf("CheckExtension = %d, %v", n, err)
	}
	if err := g.vm.EnableCap(Cap(9999)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("EnableCap of an unknown capability = %v; want EINVAL", err)
	}
}

// All that a vCPU is, as KVM lists it, goes from one to another.
func TestStateMoves(t *testing.T) {
	from := newGuest(t, []byte{0xf4}, (*VM).CreateIRQChip)
	to := newGuest(t, []byte{0xf4}, (*VM).CreateIRQChip)
	sys, err := Open()
	check(t, err)
	defer sys.Close()
	cpuid, err := sys.SupportedCPUID()
	check(t, err)
	check(t, from.vcpu.SetCPUID(cpuid))
	check(t, to.vcpu.SetCPUID(cpuid))
	indices, err := sys.MSRIndices()
	check(t, err)
	size, err := from.vm.XStateSize()
	check(t, err)

	state, err := from.vcpu.XState(size)
	check(t, err)
	state[160] = 0x55 // of XMM0
	state[512] |= 3   // which is used
	roundTrip(t, "extended state", state, to.vcpu.SetXState, func() ([]byte, error) { return to.vcpu.XState(size) })

	msrs, err := from.vcpu.ReadableMSRs(indices)
	check(t, err)
	if len(msrs) < 10 {
		t.Errorf("%d of %d registers can be read", len(msrs), len(indices))
	}
	const star = 0xc000_0081
	found := false
	for i := range msrs {
		if msrs[i].Index == star {
			msrs[i].Data, found = 0x23_0010_0000_0000, true
		}
	}
	if !found {
		t.Error("KVM does not list STAR")
	}
	check(t, to.vcpu.RestoreMSRs(msrs))
	got := []MSREntry{{Index: star}}
	check(t, to.vcpu.MSRs(got))
	if got[0].Data != 0x23_0010_0000_0000 {
		t.Errorf("STAR is %#x", got[0].Data)
	}
	var refused *RefusedMSRError
	if err := to.vcpu.RestoreMSRs([]MSREntry{{Index: 0xdead_0000, Data: 1}}); !errors.As(err, &refused) || refused.Index != 0xdead_0000 {
		t.Errorf("a register that does not exist: %v", err)
	}
}
