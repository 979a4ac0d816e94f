package machine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"vmm/doctor"
	"vmm/probe"
)

// entryAddr is where the code of kernelFile begins in guest memory.
const entryAddr = 0x100_0200

// kinds are the kinds of probes that this host has.
func kinds(t *testing.T) []probe.Kind {
	t.Helper()
	has := doctor.Run().Probes
	kinds := []probe.Kind{probe.Port}
	if has.SoftwareBreakpoint {
		kinds = append(kinds, probe.Breakpoint)
	}
	if has.HardwareBreakpoint {
		kinds = append(kinds, probe.Hardware)
	}
	return kinds
}

func insert(t *testing.T, m *Machine, p *probe.Probe) {
	t.Helper()
	if err := m.Probes().Insert(p); err != nil {
		t.Fatal(err)
	}
}

// runTo runs the machine and expects the guest to end it with a value.
func runTo(t *testing.T, m *Machine, want uint32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if o, err := m.Run(ctx); err != nil || o.Kind != DebugExit || o.Value != want {
		t.Errorf("Run = %v %#x (%+v), %v; want debug exit %#x", o.Kind, o.Value, o.Crash, err, want)
	}
}

func withDebugExit(c *Config) { c.DebugExit = true }

// A probe is hit each time, with the registers that the guest has, and the
// guest does what it would have done.
func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name string
		code []byte // at the probe: makes AL one larger
	}{
		{"a long instruction", []byte{0x04, 0x01}},                     // add $1, %al
		{"two short ones", []byte{0x50, 0x58, 0x04, 0x01}},             // push %rax; pop %rax; add
		{"an access of a device", []byte{0xe6, 0x80, 0x04, 0x01}},      // out %al, $0x80; add
		{"one with a jump", []byte{0xeb, 0x00, 0x90, 0x04, 0x01}},      // jmp 1f; 1: nop; add
		{"a prefix", []byte{0xf3, 0x0f, 0x1e, 0xfa, 0x04, 0x01}},       // endbr64; add
		{"one in a loop by itself", []byte{0xb1, 3, 0xe2, 0xfe, 4, 1}}, // mov $3, %cl; 1: loop 1b; add
	} {
		for _, kind := range kinds(t) {
			t.Run(kind.String()+"/"+tt.name, func(t *testing.T) {
				code := []byte{0x31, 0xc0, 0x31, 0xc9, 0xbb, 5, 0, 0, 0} // xor %eax, %eax; xor %ecx, %ecx; mov $5, %ebx
				at := uint64(len(code))
				code = append(code, tt.code...)
				code = append(code, 0xff, 0xcb, 0x75, byte(-4-len(tt.code)), 0xe6, 0xf4) // dec %ebx; jnz; out %al, $0xf4
				m := newMachine(t, code, withDebugExit)
				var seen []uint64
				p := &probe.Probe{Kind: kind, Addr: entryAddr + at, Hit: func(h *probe.Hit) {
					if h.Regs.RIP != entryAddr+at {
						t.Errorf("RIP %#x; want %#x", h.Regs.RIP, entryAddr+at)
					}
					if seen = append(seen, h.Regs.RAX<<8|h.Regs.RBX); len(seen) > 10 {
						m.Probes().Remove(h.Probe)
					}
				}}
				insert(t, m, p)

				runTo(t, m, 5)

				want := []uint64{0x005, 0x104, 0x203, 0x302, 0x401}
				if len(seen) != len(want) {
					t.Fatalf("hit with %x; want %x", seen, want)
				}
				for i := range want {
					if seen[i] != want[i] {
						t.Errorf("hit with %x; want %x", seen, want)
					}
				}
			})
		}
	}
}

// A probe that removes itself is hit once and leaves no trace.
func TestProbeOnce(t *testing.T) {
	for _, kind := range kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			// mov $3, %ecx; 1: inc %eax; inc %eax; loop 1b; out
			code := []byte{0x31, 0xc0, 0xb9, 3, 0, 0, 0, 0xff, 0xc0, 0xff, 0xc0, 0xe2, 0xfa, 0xe6, 0xf4}
			m := newMachine(t, code, withDebugExit)
			hits := 0
			insert(t, m, &probe.Probe{Kind: kind, Addr: entryAddr + 9, Hit: func(h *probe.Hit) {
				hits++
				m.Probes().Remove(h.Probe)
			}})

			runTo(t, m, 6)

			if hits != 1 {
				t.Errorf("%d hits; want 1", hits)
			}
			if b, err := m.memory.Slice(entryAddr, uint64(len(code))); err != nil || string(b) != string(code) {
				t.Errorf("the code is % x, %v; want % x", b, err, code)
			}
		})
	}
}

// A probe's function changes registers, and moves other probes: the way to see
// a function return.
func TestProbeChanges(t *testing.T) {
	for _, kind := range kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			m := newMachine(t, []byte{
				0xb0, 0x11, //                   mov $0x11, %al
				0xb0, 0x22, //                   mov $0x22, %al: skipped
				0xe8, 0x02, 0x00, 0x00, 0x00, // call 1f
				0xe6, 0xf4, //                   out %al, $0xf4
				0x04, 0x01, //                1: add $1, %al
				0xc3, //                         ret
			}, withDebugExit)
			var returned uint64
			insert(t, m, &probe.Probe{Kind: kind, Addr: entryAddr + 2, Hit: func(h *probe.Hit) { h.Regs.RIP += 2 }})
			insert(t, m, &probe.Probe{Kind: kind, Addr: entryAddr + 11, Hit: func(h *probe.Hit) {
				back, err := m.memory.Uint64(h.Regs.RSP)
				if err != nil {
					t.Error(err)
				}
				insert(t, m, &probe.Probe{Kind: kind, Addr: back, Hit: func(h *probe.Hit) {
					m.Probes().Remove(h.Probe)
					returned = h.Regs.RAX
					h.Regs.RAX = 0x33
				}})
			}})

			runTo(t, m, 0x33)

			if returned != 0x12 {
				t.Errorf("the function returned %#x; want 0x12", returned)
			}
		})
	}
}

// A write to the port of probes that the guest makes itself is one to a port.
func TestProbePortOfGuest(t *testing.T) {
	m := newMachine(t, []byte{0xb0, 0x07, 0xe6, probe.PortNumber, 0x04, 0x01, 0xe6, 0xf4}, withDebugExit)
	insert(t, m, &probe.Probe{Addr: entryAddr + 0x80, Hit: func(*probe.Hit) { t.Error("hit") }})

	runTo(t, m, 8)

	if n := m.Stats().Unclaimed; n != 1 {
		t.Errorf("%d unclaimed accesses; want 1", n)
	}
}

// What cannot be probed is refused.
func TestProbeInsertFails(t *testing.T) {
	m := newMachine(t, nil, nil)
	insert(t, m, &probe.Probe{Addr: entryAddr})
	for i := range uint64(probe.MaxHardware) {
		insert(t, m, &probe.Probe{Kind: probe.Hardware, Addr: i})
	}
	for _, p := range []*probe.Probe{
		{Addr: 64<<20 - 1},
		{Addr: 1 << 63},
		{Addr: entryAddr},
		{Addr: entryAddr + 1},
		{Addr: entryAddr - 1},
		{Kind: probe.Breakpoint, Addr: entryAddr + 1},
		{Kind: probe.Hardware, Addr: 0x1000},
	} {
		if err := m.Probes().Insert(p); err == nil {
			t.Errorf("a probe of kind %v at %#x is accepted", p.Kind, p.Addr)
		}
	}
}

// Who looks at the guest's code does not see the probes, and one that the guest
// has overwritten stays overwritten.
func TestProbeOriginal(t *testing.T) {
	code := []byte{0x90, 0x91, 0x92, 0x93}
	m := newMachine(t, code, nil)
	p := &probe.Probe{Addr: entryAddr + 1}
	insert(t, m, p)
	for from := range uint64(4) {
		b := make([]byte, 4-from)
		if _, err := m.memory.ReadAt(b, int64(entryAddr+from)); err != nil {
			t.Fatal(err)
		}
		m.Probes().Original(entryAddr+from, b)
		if string(b) != string(code[from:]) {
			t.Errorf("from byte %d on: % x; want % x", from, b, code[from:])
		}
	}
	b, err := m.memory.Slice(entryAddr, 4)
	if err != nil {
		t.Fatal(err)
	}
	b[2] = 0xaa
	m.Probes().Remove(p)
	if b[2] != 0xaa {
		t.Errorf("% x: the guest's own byte is gone", b)
	}
}

// Two processors pass the same probe again and again, and none passes it
// unseen while the other steps over it.
func TestProbeTwoProcessors(t *testing.T) {
	const (
		rounds = 200
		ap     = 0x8000 // where the application processor begins, in real mode
		loop   = 0x8010
	)
	for _, kind := range kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			m := newMachine(t, []byte{
				// Intel SDM vol. 3 §11.4.4.1 and §11.6.1: INIT, then a start-up
				// IPI with the page of the code, to APIC 1.
				0xbb, 0x00, 0x00, 0xe0, 0xfe, //                      mov $0xfee00000, %ebx
				0xc7, 0x83, 0x10, 0x03, 0, 0, 0, 0, 0, 1, //          movl $1<<24, 0x310(%rbx)
				0xc7, 0x83, 0x00, 0x03, 0, 0, 0x00, 0x45, 0, 0, //    movl INIT, 0x300(%rbx)
				0xc7, 0x83, 0x00, 0x03, 0, 0, ap >> 12, 0x46, 0, 0, // movl SIPI, 0x300(%rbx)
				0xb9, rounds & 0xff, rounds >> 8, 0, 0, //            mov $rounds, %ecx
				0xb8, 0x10, 0x80, 0, 0, //                            mov $loop, %eax
				0xff, 0xe0, //                                        jmp *%rax
			}, func(c *Config) { c.CPUs = 2 })
			for addr, code := range map[int64][]byte{
				ap:   {0xb9, rounds & 0xff, rounds >> 8, 0xea, 0x10, 0x80, 0, 0},      // mov $rounds, %cx; ljmp $0:loop
				loop: {0x90, 0x90, 0xe2, 0xfc, 0xb0, 1, 0xe6, 0x80, 0xf4, 0xeb, 0xfd}, // nop; nop; loop; mov $1, %al; out; hlt
			} {
				if _, err := m.memory.WriteAt(code, addr); err != nil {
					t.Fatal(err)
				}
			}
			var hits [2]int // of each processor, on its own goroutine
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			insert(t, m, &probe.Probe{Kind: kind, Addr: loop, Hit: func(h *probe.Hit) { hits[h.VCPU.ID]++ }})
			var done atomic.Int32
			insert(t, m, &probe.Probe{Addr: loop + 6, Hit: func(*probe.Hit) {
				if done.Add(1) == 2 {
					cancel()
				}
			}})

			if o, err := m.Run(ctx); err != nil || o.Kind != Stopped {
				t.Fatalf("Run = %v (%+v), %v", o.Kind, o.Crash, err)
			}

			if hits != [2]int{rounds, rounds} {
				t.Errorf("%v hits; want %d of each processor", hits, rounds)
			}
		})
	}
}

// BenchmarkProbe is a call and a return that are both met, as the timeline meets
// those of initcalls: two stops.
func BenchmarkProbe(b *testing.B) {
	m := newMachine(b, []byte{
		0xe8, 0x02, 0x00, 0x00, 0x00, // 1: call 2f
		0xeb, 0xf9, //                      jmp 1b
		0x89, 0xc0, 0xc3, //             2: mov %eax, %eax; ret
	}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rounds := 0
	var entry, back *probe.Probe
	insert := func(p *probe.Probe) {
		if err := m.Probes().Insert(p); err != nil {
			b.Error(err)
			cancel()
		}
	}
	entry = &probe.Probe{Addr: entryAddr + 7, Hit: func(*probe.Hit) {
		m.Probes().Remove(entry)
		if rounds++; rounds == b.N {
			cancel()
		}
		insert(back)
	}}
	back = &probe.Probe{Addr: entryAddr + 5, Hit: func(*probe.Hit) {
		m.Probes().Remove(back)
		insert(entry)
	}}
	insert(entry)
	b.ResetTimer()
	if o, err := m.Run(ctx); err != nil || o.Kind != Stopped {
		b.Fatal(o.Kind, err)
	}
}
