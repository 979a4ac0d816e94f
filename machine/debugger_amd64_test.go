package machine

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/doctor"
	"vmm/gdb"
	"vmm/kvm"
)

// debug attaches to a machine that has been started.
func debug(t *testing.T, m *Machine) *Debugger {
	t.Helper()
	probes, err := doctor.DebugProbes()
	if err != nil {
		t.Fatal(err)
	}
	d := m.Debugger(DebugAbility{Hardware: probes.HardwareBreakpoint, Watch: probes.Watchpoint, Breakpoint: probes.SoftwareBreakpoint}, func() { m.stop(Outcome{Kind: Stopped}, nil) })
	d.Attach()
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// goOn resumes and waits for the next stop.
func goOn(t *testing.T, d *Debugger, actions ...gdb.Action) gdb.Stop {
	t.Helper()
	must(t, d.Resume(actions))
	select {
	case s := <-d.Stops():
		d.Halt()
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("nothing stops")
	}
	return gdb.Stop{}
}

func ip(t *testing.T, d *Debugger, cpu int) uint64 {
	t.Helper()
	r, err := d.Registers(cpu)
	must(t, err)
	return r.Uint(gdb.RIP)
}

// A loop: 0x1000200 to 0x1000209.
var loop = []byte{
	0xff, 0xc0, //                                 inc %eax
	0x89, 0x04, 0x25, 0x00, 0x30, 0x00, 0x00, //   mov %eax, 0x3000
	0xeb, 0xf5, //                                 jmp
}

func TestDebugger(t *testing.T) {
	m := newMachine(t, loop, nil)
	m.HoldForDebugger()
	end := start(t, m)
	d := debug(t, m)
	if at := ip(t, d, 0); at != entryAddr {
		t.Fatalf("held at %#x", at)
	}
	b := gdb.Breakpoint{Kind: gdb.Software, Addr: entryAddr + 2, Size: 1}
	must(t, d.Insert(0, b))
	must(t, d.Insert(0, b)) // once more is as good as once
	for i := range uint64(3) {
		if s := goOn(t, d, gdb.Continue); s != (gdb.Stop{Reason: gdb.AtSoftware, Addr: b.Addr}) {
			t.Fatalf("%+v", s)
		}
		r, err := d.Registers(0)
		must(t, err)
		if r.Uint(gdb.RIP) != b.Addr || r.Uint(gdb.RAX) != i+1 {
			t.Errorf("RIP %#x, RAX %d; want %#x, %d", r.Uint(gdb.RIP), r.Uint(gdb.RAX), b.Addr, i+1)
		}
	}
	// Memory shows the guest's code, and not the breakpoint.
	code := make([]byte, len(loop))
	if n, err := d.ReadMemory(0, entryAddr, code); n != len(loop) || err != nil || !bytes.Equal(code, loop) {
		t.Errorf("code % x, %d, %v", code, n, err)
	}
	// Step after step, off the breakpoint and around to it. It is hit then, not
	// stepped on.
	for _, want := range []uint64{entryAddr + 9, entryAddr, entryAddr + 2} {
		s := goOn(t, d, gdb.Step)
		if at := ip(t, d, 0); at != want {
			t.Errorf("%+v at %#x; want %#x", s, at, want)
		}
	}
	must(t, d.Remove(b))
	must(t, d.Remove(b))
	if s := goOn(t, d, gdb.Step); s.Reason != gdb.Stepped {
		t.Errorf("%+v; want a step", s)
	}
	// Registers are changed: 3 instructions back, and another value.
	r, err := d.Registers(0)
	must(t, err)
	r.SetUint(gdb.RIP, entryAddr)
	r.SetUint(gdb.RAX, 0x41)
	copy(r.Bytes(gdb.XMM0+3), "sixteen letters.")
	r.SetUint(gdb.CR2, 0x1234)
	must(t, d.SetRegisters(0, r))
	goOn(t, d, gdb.Step) // the values have been in the processor
	if got, err := d.Registers(0); err != nil || string(got.Bytes(gdb.XMM0+3)) != "sixteen letters." {
		t.Errorf("XMM3 %q, %v", got.Bytes(gdb.XMM0+3), err)
	}
	if got, err := d.Registers(0); err != nil || got.Uint(gdb.RAX) != 0x42 || got.Uint(gdb.CR2) != 0x1234 {
		t.Errorf("RAX %#x, CR2 %#x, %v", got.Uint(gdb.RAX), got.Uint(gdb.CR2), err)
	}
	must(t, d.WriteMemory(0, 0x3000, []byte("text")))
	text := make([]byte, 4)
	if _, err := d.ReadMemory(0, 0x3000, text); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if n, err := d.ReadMemory(0, 64<<20-2, make([]byte, 8)); n != 2 || err != nil {
		t.Errorf("at the end of RAM: %d, %v; want 2 bytes", n, err)
	}
	if err := d.WriteMemory(0, 1<<40, text); !errors.Is(err, errAddress) {
		t.Errorf("written to nowhere: %v", err)
	}
	d.Detach()
	if m.Paused() {
		t.Error("paused after it has gone")
	}
	end()
}

func TestWatchpoint(t *testing.T) {
	m := newMachine(t, loop, nil)
	m.HoldForDebugger()
	defer start(t, m)()
	d := debug(t, m)
	if err := d.Insert(0, gdb.Breakpoint{Kind: gdb.WatchRead, Addr: 0x3000, Size: 4}); !errors.Is(err, errReads) {
		t.Errorf("a watchpoint for reads alone: %v", err)
	}
	if !d.can.Watch {
		if err := d.Insert(0, gdb.Breakpoint{Kind: gdb.WatchWrite, Addr: 0x3000, Size: 4}); !errors.Is(err, errWatch) {
			t.Errorf("a host without watchpoints: %v", err)
		}
		return
	}
	if err := d.Insert(0, gdb.Breakpoint{Kind: gdb.WatchWrite, Addr: 0x3001, Size: 4}); err == nil {
		t.Error("a watchpoint that is not aligned is taken")
	}
	for _, kind := range []gdb.Kind{gdb.WatchWrite, gdb.WatchAccess} {
		b := gdb.Breakpoint{Kind: kind, Addr: 0x3000, Size: 4}
		must(t, d.Insert(0, b))
		for range 2 {
			s := goOn(t, d, gdb.Continue)
			if at := ip(t, d, 0); s.Addr != 0x3000 || at != entryAddr+9 {
				t.Errorf("%+v at %#x; want behind the write, %#x", s, at, entryAddr+9)
			}
		}
		must(t, d.Remove(b))
	}
	d.Detach()
}

// Each access of a device is one step.
func TestStepDevice(t *testing.T) {
	m := newMachine(t, []byte{
		0xbb, 0x00, 0x00, 0x00, 0xd0, // mov $0xd0000000, %ebx
		0xe6, 0x80, //                   out %al, $0x80
		0xe4, 0x80, //                   in $0x80, %al
		0x89, 0x03, //                   mov %eax, (%rbx): nothing there
		0x8b, 0x03, //                   mov (%rbx), %eax
		0xeb, 0xfe, //                   jmp .
	}, nil)
	m.HoldForDebugger()
	defer start(t, m)()
	d := debug(t, m)
	var got []uint64
	for range 6 {
		goOn(t, d, gdb.Step)
		got = append(got, ip(t, d, 0)-entryAddr)
	}
	if diff := cmp.Diff([]uint64{5, 7, 9, 11, 13, 13}, got); diff != "" {
		t.Error(diff)
	}
	if r, err := d.Registers(0); err != nil || r.Uint(gdb.RAX) != 0xffff_ffff {
		t.Errorf("RAX %#x, %v; want all ones", r.Uint(gdb.RAX), err)
	}
	d.Detach()
}

// A debugger that comes and goes while the guest runs, and stops that nobody has
// heard of, leave it running.
func TestComesAndGoes(t *testing.T) {
	m := newMachine(t, loop, nil)
	end := start(t, m)
	d := debug(t, m)
	d.Detach()
	b := gdb.Breakpoint{Kind: gdb.Software, Addr: entryAddr, Size: 1}
	for i := range 50 {
		d.Attach()
		must(t, d.Insert(0, b))
		must(t, d.Resume([]gdb.Action{gdb.Continue}))
		if i%2 == 0 {
			<-d.Stops()
		}
		if i%3 == 0 {
			d.Halt()
		}
		d.Detach()
	}
	before, err := m.memory.Uint32(0x3000)
	must(t, err)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if now, _ := m.memory.Uint32(0x3000); now != before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the guest does not run")
		}
	}
	d.Attach()
	code := make([]byte, len(loop))
	if _, err := m.memory.ReadAt(code, entryAddr); err != nil || !bytes.Equal(code, loop) {
		t.Errorf("the code is % x; want % x", code, loop)
	}
	d.Kill()
	if o := end(); o.Kind != Stopped {
		t.Errorf("outcome %v", o.Kind)
	}
}

// The tags of x87 registers, short and long. Intel SDM vol. 1 table 10-2.
func TestTags(t *testing.T) {
	var f kvm.FPU
	f.FTWX = 0b1010_0001
	f.FSW = 5 << 11                                 // the top of the stack is physical register 5
	f.FPR[0] = [16]uint8{7: 0x80, 8: 0xff, 9: 0x3f} // 1.0, in register 5
	f.FPR[2] = [16]uint8{}                          // 0.0, in register 7
	f.FPR[3] = [16]uint8{7: 0x80, 8: 0xff, 9: 0x7f} // infinity, in register 0
	if got := fullTags(f); got != 0b01_11_00_11_11_11_11_10 {
		t.Errorf("tags %016b", got)
	}
	if got := abridgedTags(0b01_11_00_11_11_11_11_10); got != f.FTWX {
		t.Errorf("abridged %08b; want %08b", got, f.FTWX)
	}
}
