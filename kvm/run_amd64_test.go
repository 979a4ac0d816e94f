package kvm

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestPortIO(t *testing.T) {
	g := newGuest(t, []byte{
		0xb0, 0x42, // mov $0x42, %al
		0xe6, 0x10, // out %al, $0x10
		0xe4, 0x11, // in  $0x11, %al
		0xe6, 0x12, // out %al, $0x12
		0xf4, //       hlt
	})
	g.vcpu.LockThread()
	if io := g.expectIO(g.vcpu, 0x10, true); !bytes.Equal(io.Data, []byte{0x42}) {
		t.Errorf("wrote % x; want 42", io.Data)
	}
	io := g.expectIO(g.vcpu, 0x11, false)
	io.Data[0] = 0x99

	// The read takes effect on the next entry, which CompleteExit makes
	// without running on.
	check(t, g.vcpu.CompleteExit())
	r, err := g.vcpu.Regs()
	check(t, err)
	if r.RAX&0xff != 0x99 || r.RIP != codeAddr+6 {
		t.Errorf("after the read AL is %#x and RIP %#x; want 0x99 and %#x", r.RAX&0xff, r.RIP, codeAddr+6)
	}
	if exit, err := g.vcpu.Run(); err != nil || exit.Reason != ExitInterrupted {
		t.Errorf("Run before ClearKick = %v, %v; want to be interrupted", exit.Reason, err)
	}
	g.vcpu.ClearKick()
	if io := g.expectIO(g.vcpu, 0x12, true); !bytes.Equal(io.Data, []byte{0x99}) {
		t.Errorf("wrote % x; want 99", io.Data)
	}
	if exit := g.run(g.vcpu); exit.Reason != ExitHalt {
		t.Errorf("exit: %v; want halt", exit.Reason)
	}
}

func TestStringIO(t *testing.T) {
	g := newGuest(t, []byte{
		0xbe, 0x00, 0x30, 0x00, 0x00, // mov $0x3000, %esi
		0xb9, 0x05, 0x00, 0x00, 0x00, // mov $5, %ecx
		0x66, 0xba, 0x10, 0x00, //       mov $0x10, %dx
		0xfc,       //                   cld
		0xf3, 0x6e, //                   rep outsb
		0xf4, //                         hlt
	})
	copy(g.ram[dataAddr:], "hello")
	g.vcpu.LockThread()
	var got []byte
	for exit := g.run(g.vcpu); exit.Reason == ExitIO; exit = g.run(g.vcpu) {
		got = append(got, exit.IO().Data...)
	}
	if string(got) != "hello" {
		t.Errorf("wrote %q; want %q", got, "hello")
	}
}

func TestMMIO(t *testing.T) {
	g := newGuest(t, []byte{
		0xc7, 0x05, 0x00, 0x00, 0x10, 0x00, 0x44, 0x33, 0x22, 0x11, // movl $0x11223344, 0x100000
		0x0f, 0xb7, 0x05, 0x04, 0x00, 0x10, 0x00, //                   movzwl 0x100004, %eax
		0xe7, 0x10, //                                                 out %eax, $0x10
		0xf4, //                                                       hlt
	})
	g.vcpu.LockThread()
	exit := g.run(g.vcpu)
	if exit.Reason != ExitMMIO {
		t.Fatalf("exit: %v; want MMIO", exit.Reason)
	}
	if m := exit.MMIO(); m.Addr != 0x10_0000 || !m.Write || !bytes.Equal(m.Data, []byte{0x44, 0x33, 0x22, 0x11}) {
		t.Errorf("MMIO %+v; want a write of 44 33 22 11 at 0x100000", m)
	}
	exit = g.run(g.vcpu)
	if exit.Reason != ExitMMIO {
		t.Fatalf("exit: %v; want MMIO", exit.Reason)
	}
	m := exit.MMIO()
	if m.Addr != 0x10_0004 || m.Write || len(m.Data) != 2 {
		t.Fatalf("MMIO %+v; want a read of 2 bytes at 0x100004", m)
	}
	copy(m.Data, []byte{0xcd, 0xab})
	if io := g.expectIO(g.vcpu, 0x10, true); binary.LittleEndian.Uint32(io.Data) != 0xabcd {
		t.Errorf("the guest read %#x; want 0xabcd", io.Data)
	}
}

// A triple fault: an invalid instruction with no table of handlers.
func TestTripleFault(t *testing.T) {
	g := newGuest(t, []byte{0x0f, 0x0b}) // ud2
	s, err := g.vcpu.Sregs()
	check(t, err)
	s.IDT = DTable{}
	check(t, g.vcpu.SetSregs(s))
	g.vcpu.LockThread()
	if exit := g.run(g.vcpu); exit.Reason != ExitShutdown {
		t.Errorf("exit: %v; want shutdown", exit.Reason)
	}
}

func TestSingleStep(t *testing.T) {
	g := newGuest(t, []byte{
		0x90,       // nop
		0x90,       // nop
		0x90,       // nop
		0xe6, 0x10, // out %al, $0x10
	})
	check(t, g.vcpu.SetGuestDebug(GuestDebug{Control: DebugEnable | DebugSingleStep}))
	g.vcpu.LockThread()
	for i := uint64(1); i <= 3; i++ {
		exit := g.run(g.vcpu)
		if exit.Reason != ExitDebug {
			t.Fatalf("step %d: exit %v; want debug", i, exit.Reason)
		}
		if d := exit.Debug(); d.PC != codeAddr+i || d.Exception != 1 {
			t.Errorf("step %d: %+v; want exception 1 at %#x", i, d, codeAddr+i)
		}
	}
	check(t, g.vcpu.SetGuestDebug(GuestDebug{}))
	g.expectIO(g.vcpu, 0x10, true)
}

func TestDirtyLog(t *testing.T) {
	g := newGuest(t, []byte{
		0xc6, 0x05, 0x00, 0x50, 0x00, 0x00, 0x01, // movb $1, 0x5000
		0xc6, 0x05, 0xff, 0x7f, 0x00, 0x00, 0x01, // movb $1, 0x7fff
		0xe6, 0x10, //                               out %al, $0x10
		0xf4, //                                     hlt
	})
	check(t, g.vm.SetMemory(0, MemoryLogDirty, 0, g.ram))
	g.vcpu.LockThread()
	g.expectIO(g.vcpu, 0x10, true)
	dirty, err := g.vm.DirtyLog(0, ramSize/4096)
	check(t, err)
	if want := uint64(1<<5 | 1<<7); dirty[0]&want != want || dirty[0]&(1<<6) != 0 {
		t.Errorf("dirty pages %#x; want pages 5 and 7 among them, and not 6", dirty[0])
	}
	dirty, err = g.vm.DirtyLog(0, ramSize/4096)
	check(t, err)
	if dirty[0] != 0 {
		t.Errorf("dirty pages %#x after the log was read; want none", dirty[0])
	}
	check(t, g.vm.DeleteMemory(0))
}

// spin loops with interrupts on. Bochs 3.0 lets its host have none while a guest that
// it entered with interrupts off does not exit.
var spin = []byte{
	0xfb,       //    sti
	0xeb, 0xfe, // 1: jmp 1b
}

// A Kick ends Run, whether it comes before it, at its start or while the guest
// spins, and whatever the garbage collector does meanwhile.
func TestKick(t *testing.T) {
	g := newGuest(t, spin)
	const rounds = 500
	var returned atomic.Int64
	var stop atomic.Bool
	ended := make(chan struct{})
	g.vcpu.Kick() // before there is a thread
	go func() {
		defer close(ended)
		g.vcpu.LockThread()
		for !stop.Load() {
			if exit, err := g.vcpu.Run(); err != nil || exit.Reason != ExitInterrupted {
				t.Errorf("Run = %v, %v; want to be interrupted", exit.Reason, err)
				return
			}
			g.vcpu.ClearKick()
			returned.Add(1)
		}
	}()
	for i := range rounds {
		before := int64(0) // the first kick was above, and may have been felt
		if i > 0 {
			before = returned.Load()
			g.vcpu.Kick()
		}
		if i%50 == 0 {
			runtime.GC()
		}
		deadline := time.Now().Add(5 * time.Second)
		for returned.Load() == before {
			if time.Now().After(deadline) {
				t.Errorf("kick %d was lost", i)
				break
			}
			runtime.Gosched()
		}
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	for {
		g.vcpu.Kick()
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// One kick is enough, and works fast.
func TestKickOnce(t *testing.T) {
	g := newGuest(t, spin)
	entered, done := make(chan struct{}), make(chan Exit)
	go func() {
		g.vcpu.LockThread()
		close(entered)
		// The runtime's own signals interrupt Run too: only a Kick leaves
		// the flag behind.
		for {
			exit, _ := g.vcpu.Run()
			if g.vcpu.request.Load() != 0 {
				done <- exit
				return
			}
		}
	}()
	<-entered
	time.Sleep(10 * time.Millisecond) // let it spin
	g.vcpu.Kick()
	select {
	case exit := <-done:
		if exit.Reason != ExitInterrupted {
			t.Errorf("exit: %v; want interrupted", exit.Reason)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the kick was lost")
	}
}

func BenchmarkExit(b *testing.B) {
	g := newGuest(b, []byte{
		0xe6, 0x10, // 1: out %al, $0x10
		0xeb, 0xfc, //    jmp 1b
	})
	g.vcpu.LockThread()
	b.ReportAllocs()
	for b.Loop() {
		if exit, err := g.vcpu.Run(); err != nil || exit.Reason != ExitIO && exit.Reason != ExitInterrupted {
			b.Fatal(exit.Reason, err)
		}
	}
}
