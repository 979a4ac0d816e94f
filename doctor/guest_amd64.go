package doctor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"vmm/kvm"
	"vmm/memory"
)

// The tiny guest: a page of code, and page tables that map the first 2 MiB to
// themselves, for user mode as well.
const (
	codeAddr   = 0x1000
	pml4Addr   = 0x2000
	pdptAddr   = 0x3000
	pdAddr     = 0x4000
	stackTop   = 0x6000
	memorySize = 0x10000

	pteUser = 1<<0 | 1<<1 | 1<<2 // present, writable, user
	pte2M   = 1 << 7

	donePort = 0x80
)

// guest is a VM with one vCPU and a program.
type guest struct {
	vm   *kvm.VM
	vcpu *kvm.VCPU
	ram  *memory.Guest
}

// newGuest makes a guest that is about to run code at the privilege level cpl,
// in long mode, with its loop counter in RCX.
func newGuest(system *kvm.System, code []byte, cpl uint8, count uint64) (_ *guest, err error) {
	g := &guest{}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if g.ram, err = memory.New([]memory.Range{{Size: memorySize}}, memory.Options{}); err != nil {
		return nil, err
	}
	if _, err := g.ram.WriteAt(code, codeAddr); err != nil {
		return nil, err
	}
	for addr, entry := range map[uint64]uint64{pml4Addr: pdptAddr | pteUser, pdptAddr: pdAddr | pteUser, pdAddr: pteUser | pte2M} {
		if err := g.ram.PutUint64(addr, entry); err != nil {
			return nil, err
		}
	}
	if g.vm, err = system.CreateVM(); err != nil {
		return nil, err
	}
	if err := g.vm.SetTSSAddr(0xfffb_d000); err != nil {
		return nil, err
	}
	if err := g.vm.SetMemory(0, 0, 0, g.ram.Regions()[0].Host()); err != nil {
		return nil, err
	}
	if g.vcpu, err = g.vm.CreateVCPU(0); err != nil {
		return nil, err
	}
	supported, err := system.SupportedCPUID()
	if err != nil {
		return nil, err
	}
	if err := g.vcpu.SetCPUID(supported); err != nil {
		return nil, err
	}
	return g, g.reset(cpl, count)
}

// reset sets the registers for another run of the program.
func (g *guest) reset(cpl uint8, count uint64) error {
	s, err := g.vcpu.Sregs()
	if err != nil {
		return err
	}
	rpl := uint16(cpl)
	s.CS = kvm.Segment{Limit: 0xffff_ffff, Selector: 0x10 | rpl, Type: 0xb, Present: 1, DPL: cpl, S: 1, L: 1, G: 1}
	data := kvm.Segment{Limit: 0xffff_ffff, Selector: 0x18 | rpl, Type: 3, Present: 1, DPL: cpl, DB: 1, S: 1, G: 1}
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.TR = kvm.Segment{Limit: 0x67, Type: 0xb, Present: 1}
	s.LDT = kvm.Segment{Unusable: 1}
	s.CR0 = 1<<31 | 1<<5 | 1<<4 | 1 // PG, NE, ET, PE
	s.CR3 = pml4Addr
	s.CR4 = 1 << 5        // PAE
	s.EFER = 1<<8 | 1<<10 // LME, LMA
	if err := g.vcpu.SetSregs(s); err != nil {
		return err
	}
	// I/O privilege level 3: user mode may use ports, and so can say that it
	// is done.
	const iopl3 = 3 << 12
	return g.vcpu.SetRegs(kvm.Regs{RIP: codeAddr, RCX: count, RSP: stackTop, RFLAGS: iopl3 | 1<<1})
}

func (g *guest) close() {
	if g.vcpu != nil {
		g.vcpu.Close()
	}
	if g.vm != nil {
		g.vm.Close()
	}
	if g.ram != nil {
		g.ram.Close()
	}
}

// run lets the guest run until it writes to donePort.
func (g *guest) run() error {
	exit, err := g.runOnce()
	if err != nil {
		return err
	}
	if exit.Reason != kvm.ExitIO || exit.IO().Port != donePort {
		return fmt.Errorf("it ended with: %v", exit.Reason)
	}
	return nil
}

// errTimeout is a guest that did not come back.
var errTimeout = errors.New("it did not come back in time")

// runOnce lets the guest run to its next exit, but not for longer than a
// second.
func (g *guest) runOnce() (kvm.Exit, error) {
	timer := time.AfterFunc(time.Second, g.vcpu.Kick)
	defer timer.Stop()
	deadline := time.Now().Add(time.Second)
	for {
		exit, err := g.vcpu.Run()
		if err != nil || exit.Reason != kvm.ExitInterrupted {
			return exit, err
		}
		if !time.Now().Before(deadline) {
			return exit, errTimeout
		}
		g.vcpu.ClearKick()
	}
}

// Programs, with what their bytes are.
var (
	// countDown is a loop of two instructions, RCX times.
	countDown = []byte{
		0x48, 0xff, 0xc9, // 1: dec rcx
		0x75, 0xfb, //          jnz 1b
		0xe6, donePort, //      out donePort, al
	}
	// exits does nothing but come back to vmm.
	exits = []byte{
		0xe6, donePort, // 1: out donePort, al
		0xeb, 0xfc, //        jmp 1b
	}
	// steps is a few instructions to stop at.
	steps = []byte{
		0x90,           // nop
		0x90,           // nop
		0xe6, donePort, // out donePort, al
	}
	// store writes a byte of memory, below the stack.
	store = []byte{
		0x88, 0x44, 0x24, 0x100 - storeBelow, // mov %al, -storeBelow(%rsp)
		0xe6, donePort, //                       out donePort, al
	}
	// breakpoint has an INT3 in front of its end.
	breakpoint = []byte{
		0xcc,           // int3
		0xe6, donePort, // out donePort, al
	}
)

const storeBelow = 8

// measure runs the guests. They run on one thread, which ends with them.
func (r *Report) measure(system *kvm.System) error {
	result := make(chan error)
	go func() {
		result <- func() (err error) {
			if r.Speed.ExitNanoseconds, err = exitCost(system); err != nil {
				return err
			}
			if r.Speed.KernelMIPS, err = speed(system, 0); err != nil {
				return err
			}
			if r.Speed.UserMIPS, err = speed(system, 3); err != nil {
				return err
			}
			r.Probes = probe(system)
			return nil
		}()
	}()
	return <-result
}

// exitCost is the median time of a write to a port, in nanoseconds.
func exitCost(system *kvm.System) (float64, error) {
	g, err := newGuest(system, exits, 0, 0)
	if err != nil {
		return 0, err
	}
	defer g.close()
	g.vcpu.LockThread()
	const batch, batches = 20, 25
	if err := g.run(); err != nil { // the first one sets things up
		return 0, err
	}
	var samples []float64
	for range batches {
		start := time.Now()
		for range batch {
			exit, err := g.vcpu.Run()
			for err == nil && exit.Reason == kvm.ExitInterrupted { // by a signal of Go's runtime
				exit, err = g.vcpu.Run()
			}
			if err != nil {
				return 0, err
			}
			if exit.Reason != kvm.ExitIO {
				return 0, fmt.Errorf("it ended with: %v", exit.Reason)
			}
		}
		samples = append(samples, float64(time.Since(start).Nanoseconds())/batch)
	}
	slices.Sort(samples)
	return samples[len(samples)/2], nil
}

// speed is how many millions of instructions a second the guest executes at a
// privilege level.
func speed(system *kvm.System, cpl uint8) (float64, error) {
	const enough = 2 * time.Millisecond
	g, err := newGuest(system, countDown, cpl, 1)
	if err != nil {
		return 0, err
	}
	defer g.close()
	g.vcpu.LockThread()
	if err := g.run(); err != nil {
		return 0, err
	}
	for count := uint64(256); ; count *= 4 {
		if err := g.reset(cpl, count); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := g.run(); err != nil {
			return 0, err
		}
		if took := time.Since(start); took >= enough {
			return 2 * float64(count) / float64(took.Microseconds()), nil
		}
	}
}

// probe finds out which debugging events reach vmm. A probe that fails in any
// way is one that does not work.
func probe(system *kvm.System) Probes {
	fires := func(code []byte, debug kvm.GuestDebug) bool {
		g, err := newGuest(system, code, 0, 0)
		if err != nil {
			return false
		}
		defer g.close()
		g.vcpu.LockThread()
		if err := g.vcpu.SetGuestDebug(debug); err != nil {
			return false
		}
		exit, err := g.runOnce()
		return err == nil && exit.Reason == kvm.ExitDebug
	}
	// Debug register 7: breakpoint 0 on execution, enabled. Intel SDM vol. 3
	// §18.2.4.
	hardware := kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugHardware}
	hardware.Regs[0], hardware.Regs[7] = codeAddr+1, 1<<10|1<<1
	// The same for a byte that is written.
	watch := kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugHardware}
	watch.Regs[0], watch.Regs[7] = stackTop-storeBelow, 1<<16|1<<10|1<<1
	return Probes{
		HardwareBreakpoint: fires(steps, hardware),
		Watchpoint:         fires(store, watch),
		SoftwareBreakpoint: fires(breakpoint, kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugSoftware}),
		SingleStep:         fires(steps, kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugSingleStep}),
	}
}
