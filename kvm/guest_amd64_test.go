package kvm

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tiny guest: 64 KiB of RAM, 32-bit protected mode with flat segments, code
// at codeAddr, descriptor tables ready for interrupts.
const (
	gdtAddr  = 0x500
	idtAddr  = 0x800 // 256 gates of 8 bytes
	codeAddr = 0x1000
	dataAddr = 0x3000
	stackTop = 0x9000
	ramSize  = 0x10000
)

type guest struct {
	t    testing.TB
	sys  *System
	vm   *VM
	ram  []byte
	vcpu *VCPU
}

// newGuest makes a guest that begins with code. Its parts are closed with the
// test, so vCPUs must not run by then.
func newGuest(t testing.TB, code []byte, before ...func(*VM) error) *guest {
	t.Helper()
	sys, err := Open()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		missing(t, err.Error())
	}
	check(t, err)
	g := &guest{t: t, sys: sys}
	t.Cleanup(func() { check(t, sys.Close()) })
	g.vm, err = sys.CreateVM()
	check(t, err)
	t.Cleanup(func() { check(t, g.vm.Close()) })
	check(t, g.vm.SetIdentityMapAddr(0xfffb_c000))
	check(t, g.vm.SetTSSAddr(0xfffb_d000))
	for _, f := range before {
		check(t, f(g.vm))
	}
	g.ram, err = unix.Mmap(-1, 0, ramSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	check(t, err)
	t.Cleanup(func() { check(t, unix.Munmap(g.ram)) })
	check(t, g.vm.SetMemory(0, 0, 0, g.ram))

	for i, d := range []uint64{0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff} {
		binary.LittleEndian.PutUint64(g.ram[gdtAddr+8*i:], d)
	}
	copy(g.ram[codeAddr:], code)
	g.vcpu = g.addVCPU(0)
	s, err := g.vcpu.Sregs()
	check(t, err)
	s.CS = Segment{Limit: 0xffff_ffff, Selector: 0x08, Type: 0xb, Present: 1, DB: 1, S: 1, G: 1}
	data := Segment{Limit: 0xffff_ffff, Selector: 0x10, Type: 3, Present: 1, DB: 1, S: 1, G: 1}
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.TR = Segment{Limit: 0x67, Type: 0xb, Present: 1}
	s.LDT = Segment{Unusable: 1}
	s.GDT = DTable{Base: gdtAddr, Limit: 3*8 - 1}
	s.IDT = DTable{Base: idtAddr, Limit: 256*8 - 1}
	s.CR0 = 1<<5 | 1<<4 | 1<<0 // NE, ET, PE
	check(t, g.vcpu.SetSregs(s))
	check(t, g.vcpu.SetRegs(Regs{RIP: codeAddr, RSP: stackTop, RFLAGS: 1 << 1}))
	return g
}

func (g *guest) addVCPU(id int) *VCPU {
	g.t.Helper()
	vcpu, err := g.vm.CreateVCPU(id)
	check(g.t, err)
	g.t.Cleanup(func() { check(g.t, vcpu.Close()) })
	cpuid, err := g.sys.SupportedCPUID()
	check(g.t, err)
	check(g.t, vcpu.SetCPUID(cpuid))
	return vcpu
}

// gate makes an interrupt vector lead to a handler. Intel SDM vol. 3 §6.11.
func (g *guest) gate(vector int, handler uint32) {
	gate := uint64(handler&0xffff) | 0x08<<16 | 0x8e00<<32 | uint64(handler>>16)<<48
	binary.LittleEndian.PutUint64(g.ram[idtAddr+8*vector:], gate)
}

// enableLAPIC switches the local APIC on, with the PIC's interrupts let
// through.
func (g *guest) enableLAPIC(vcpu *VCPU) {
	g.t.Helper()
	l, err := vcpu.LAPIC()
	check(g.t, err)
	binary.LittleEndian.PutUint32(l.Regs[0xf0:], 1<<8|0xff) // spurious vector: enabled
	binary.LittleEndian.PutUint32(l.Regs[0x350:], 7<<8)     // LINT0: ExtINT
	check(g.t, vcpu.SetLAPIC(l))
}

// run runs vcpu to its next exit other than an interruption, for as long as a
// busy machine may need at the most.
func (g *guest) run(vcpu *VCPU) Exit {
	g.t.Helper()
	const limit = 20 * time.Second
	deadline := time.Now().Add(limit)
	timer := time.AfterFunc(limit, vcpu.Kick)
	defer timer.Stop()
	for {
		exit, err := vcpu.Run()
		check(g.t, err)
		if exit.Reason != ExitInterrupted {
			return exit
		}
		if time.Now().After(deadline) {
			g.t.Fatal("the guest did not come back")
		}
		vcpu.ClearKick()
	}
}

// expectIO runs the guest to an access of a port.
func (g *guest) expectIO(vcpu *VCPU, port uint16, write bool) IO {
	g.t.Helper()
	exit := g.run(vcpu)
	if exit.Reason != ExitIO {
		g.t.Fatalf("exit: %v; want an access of port %#x", exit.Reason, port)
	}
	io := exit.IO()
	if io.Port != port || io.Write != write {
		g.t.Fatalf("port %#x, write %v; want %#x, %v", io.Port, io.Write, port, write)
	}
	return io
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
