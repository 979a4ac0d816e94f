package kvm

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const handlerAddr = 0x2000

var (
	// waitForInterrupt halts until interrupted.
	waitForInterrupt = []byte{
		0xfb,       //    sti
		0xf4,       // 1: hlt
		0xeb, 0xfd, //    jmp 1b
	}
	// handler says so at port 0x10, ends the interrupt, without which the
	// local APIC holds the vector back the next time (Intel SDM vol. 3
	// §11.8.5), and waits again. It drops what the interrupt pushed instead of returning with IRET, which a KVM that
	// interprets the guest's kernel may not know.
	handler = []byte{
		0xe6, 0x10, //       out %al, $0x10
		0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, // movl $0, 0xfee000b0
		0x83, 0xc4, 0x0c, // add $12, %esp
		0xfb,       //       sti
		0xf4,       //    1: hlt
		0xeb, 0xfd, //       jmp 1b
	}
)

// interruptible is a guest that waits for interrupts of vector 0x30.
func interruptible(t *testing.T) *guest {
	g := newGuest(t, waitForInterrupt, (*VM).CreateIRQChip)
	g.enableLAPIC(g.vcpu)
	g.gate(0x30, handlerAddr)
	copy(g.ram[handlerAddr:], handler)
	return g
}

// msiTo30 is the message for vector 0x30 to APIC ID 0, edge-triggered.
var msiTo30 = MSI{Addr: 0xfee0_0000, Data: 0x30}

func TestSignalMSI(t *testing.T) {
	g := interruptible(t)
	taken, err := g.vm.SignalMSI(msiTo30)
	check(t, err)
	if !taken {
		t.Error("the message was not taken")
	}
	g.vcpu.LockThread()
	g.expectIO(g.vcpu, 0x10, true)
}

func TestIRQFD(t *testing.T) {
	g := interruptible(t)
	const gsi = 24
	check(t, g.vm.SetGSIRouting([]Route{{GSI: 1, Chip: IOAPIC, Pin: 1}, {GSI: gsi, MSI: &msiTo30}}))
	fd := newEventFD(t)
	check(t, g.vm.AddIRQFD(fd, gsi))
	signal := func() {
		var one [8]byte
		binary.LittleEndian.PutUint64(one[:], 1)
		_, err := unix.Write(fd, one[:])
		check(t, err)
	}
	signal()
	g.vcpu.LockThread()
	g.expectIO(g.vcpu, 0x10, true)
	// While the guest is halted inside KVM.
	time.AfterFunc(20*time.Millisecond, signal)
	g.expectIO(g.vcpu, 0x10, true)
	check(t, g.vm.RemoveIRQFD(fd, gsi))
}

func TestIRQLine(t *testing.T) {
	g := newGuest(t, []byte{
		0xb0, 0x11, // mov $0x11, %al   ICW1: begin, edge-triggered, with ICW4
		0xe6, 0x20, // out %al, $0x20
		0xb0, 0x30, // mov $0x30, %al   ICW2: vectors from 0x30
		0xe6, 0x21, // out %al, $0x21
		0xb0, 0x04, // mov $0x04, %al   ICW3: the slave is at input 2
		0xe6, 0x21, // out %al, $0x21
		0xb0, 0x01, // mov $0x01, %al   ICW4: 8086 mode
		0xe6, 0x21, // out %al, $0x21
		0xb0, 0x00, // mov $0x00, %al   OCW1: nothing masked
		0xe6, 0x21, // out %al, $0x21
		0xe6, 0x11, // out %al, $0x11   ready
		0xfb,       //    sti
		0xf4,       // 1: hlt
		0xeb, 0xfd, //    jmp 1b
	}, (*VM).CreateIRQChip)
	g.enableLAPIC(g.vcpu)
	g.gate(0x34, handlerAddr)
	copy(g.ram[handlerAddr:], append([]byte{
		0xb0, 0x20, // mov $0x20, %al   OCW2: end of interrupt
		0xe6, 0x20, // out %al, $0x20
	}, handler...))
	g.vcpu.LockThread()
	g.expectIO(g.vcpu, 0x11, true)
	for range 3 {
		check(t, g.vm.SetIRQLine(4, true))
		g.expectIO(g.vcpu, 0x10, true)
		check(t, g.vm.SetIRQLine(4, false))
	}
}

func TestIOEventFD(t *testing.T) {
	g := newGuest(t, []byte{
		0xb8, 0x07, 0x00, 0x00, 0x00, //                               mov $7, %eax
		0xe7, 0x40, //                                                 out %eax, $0x40
		0xc7, 0x05, 0x00, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0x00, // movl $1, 0x200000
		0xe6, 0x10, //                                                 out %al, $0x10
		0xf4, //                                                       hlt
	})
	port, mem, other := newEventFD(t), newEventFD(t), newEventFD(t)
	seven, eight := uint64(7), uint64(8)
	check(t, g.vm.AddIOEventFD(port, IOEvent{Addr: 0x40, Size: 4, Match: &seven, Port: true}))
	check(t, g.vm.AddIOEventFD(other, IOEvent{Addr: 0x40, Size: 4, Match: &eight, Port: true}))
	check(t, g.vm.AddIOEventFD(mem, IOEvent{Addr: 0x20_0000, Size: 4}))
	g.vcpu.LockThread()
	g.expectIO(g.vcpu, 0x10, true) // and nothing before it
	for name, tt := range map[string]struct {
		fd   int
		want bool
	}{"port": {port, true}, "memory": {mem, true}, "port, other value": {other, false}} {
		var count [8]byte
		_, err := unix.Read(tt.fd, count[:])
		if got := err == nil && count[0] == 1; got != tt.want {
			t.Errorf("%s: signalled %v (%v); want %v", name, got, err, tt.want)
		}
	}
	check(t, g.vm.RemoveIOEventFD(mem, IOEvent{Addr: 0x20_0000, Size: 4}))
}

func newEventFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// The boot processor starts another with INIT and a start-up interrupt.
// Intel SDM vol. 3 §9.4.4.
func TestStartProcessor(t *testing.T) {
	g := newGuest(t, []byte{
		0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x0c, 0x00, // movl $0xc4500, 0xfee00300  INIT to all others
		0xb9, 0x20, 0x4e, 0x00, 0x00, //                               mov $20000, %ecx
		0x49,       //                                              1: dec %ecx
		0x75, 0xfd, //                                                 jnz 1b
		0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x0c, 0x00, // movl $0xc4608, 0xfee00300  start at 0x8000
		0xe6, 0x11, //                                                 out %al, $0x11
		0xf4, //                                                       hlt
	}, (*VM).CreateIRQChip)
	g.enableLAPIC(g.vcpu)
	copy(g.ram[0x8000:], []byte{ // in real mode
		0xb0, 0x5a, // mov $0x5a, %al
		0xe6, 0x10, // out %al, $0x10
		0xf4, //       hlt
	})
	other := g.addVCPU(1)
	if s, err := other.MPState(); err != nil || s != MPUninitialized {
		t.Fatalf("state of processor 1: %v, %v; want %v", s, err, MPUninitialized)
	}
	type result struct {
		exit Exit
		err  error
	}
	started := make(chan result, 1)
	go func() {
		other.LockThread()
		for {
			exit, err := other.Run()
			if err != nil || exit.Reason != ExitInterrupted || other.request.Load() != 0 {
				started <- result{exit, err}
				return
			}
		}
	}()
	g.vcpu.LockThread()
	g.expectIO(g.vcpu, 0x11, true)
	select {
	case r := <-started:
		if r.err != nil || r.exit.Reason != ExitIO || r.exit.IO().Data[0] != 0x5a {
			t.Errorf("processor 1: %v, %v; want a write to port 0x10", r.exit.Reason, r.err)
		}
	case <-time.After(5 * time.Second):
		other.Kick()
		<-started
		t.Error("processor 1 did not start")
	}
}
