package machine

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/trace"
)

// events is a sink that keeps what it is told, made sense of.
type events struct {
	mu   sync.Mutex
	make *trace.Interpreter
	all  []trace.Event
	lost uint64
}

func (e *events) Record(r *trace.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += r.Lost
	if e.make != nil {
		e.all = append(e.all, e.make.Event(r))
	}
}

func (e *events) Flush() {}

// An exit is told of with its instruction, its register by name and what the
// value means, whether it is a write or a read, to a port or to memory.
func TestTrace(t *testing.T) {
	m := newMachine(t, []byte{
		0x66, 0xba, 0xfb, 0x03, 0xb0, 0x83, 0xee, //       mov $0x3fb, %dx; mov $0x83, %al; out
		0x66, 0xba, 0xf8, 0x03, 0xb0, 0x01, 0xee, //       mov $0x3f8, %dx; mov $1, %al; out
		0x66, 0xba, 0xfd, 0x03, 0xec, //                   mov $0x3fd, %dx; in
		0xbb, 0x00, 0x10, 0x00, 0xc0, //                   mov $0xc0001000, %ebx
		0xc7, 0x43, 0x14, 0x01, 0x00, 0x00, 0x00, //       movl $1, 0x14(%rbx): DeviceFeaturesSel
		0x8b, 0x43, 0x10, //                               mov 0x10(%rbx), %eax: DeviceFeatures
		0xc6, 0x83, 0x00, 0x00, 0xf0, 0x00, 0x07, //       movb $7, 0xf00000(%rbx): nothing there
		0xb0, 0x2a, 0xe6, 0xf4, 0xf4, //                   debug exit
	}, func(c *Config) { c.DebugExit, c.RNG, c.Transport = true, true, TransportMMIO })
	sink := &events{make: trace.NewInterpreter(nil)}
	end := m.Trace(sink, true)
	if o, err := m.Run(context.Background()); err != nil || o.Kind != DebugExit {
		t.Fatalf("Run = %+v (%+v), %v; want debug exit", o, o.Crash, err)
	}
	end()
	type access struct{ Reason, Device, Register, Op, Value, Meaning, RIP, Insn string }
	var got []access
	for _, e := range sink.all {
		if e.VCPU == nil || e.Op == "" {
			continue
		}
		if e.Guest <= 0 || e.VMM <= 0 {
			t.Errorf("%s %s: %d ns in the guest, %d in vmm", e.Device, e.Register, e.Guest, e.VMM)
		}
		got = append(got, access{e.Reason, e.Device, e.Register, e.Op, e.Value.String(), e.Meaning, e.RIP.String(), e.Insn})
	}
	want := []access{
		{"port I/O", "COM1", "LCR", "write", "0x83", "8N1 DLAB", "0x1000206", "out dx, al"},
		{"port I/O", "COM1", "DLL", "write", "0x1", "", "0x100020d", "out dx, al"},
		{"port I/O", "COM1", "LSR", "read", "0x60", "THRE TEMT", "0x1000212", "in al, dx"},
		{"MMIO", "virtio-rng0", "DeviceFeaturesSel", "write", "0x1", "", "0x1000218", "mov dword ptr [rbx+0x14], 0x1"},
		{"MMIO", "virtio-rng0", "DeviceFeatures", "read", "0x1", "", "0x100021f", "mov eax, dword ptr [rbx+0x10]"},
		{"MMIO", "", "", "write", "0x7", "", "0x1000222", "mov byte ptr [rbx+0xf00000], 0x7"},
		{"port I/O", "debug-exit", "value", "write", "0x2a", "exit status 85", "0x100022b", "out 0xf4, al"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if m.tracing.now.Load() != nil {
		t.Error("the trace has not ended")
	}
}

// Two may look at once, and one may leave.
func TestTraceTwice(t *testing.T) {
	m := newMachine(t, []byte{0xb0, 0x2a, 0xe6, 0xf4, 0xf4}, func(c *Config) { c.DebugExit = true })
	first, second := trace.NewCounters(1), trace.NewCounters(1)
	endFirst, endSecond := m.Trace(first, false), m.Trace(second, true)
	endFirst()
	endFirst()
	if _, err := m.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	endSecond()
	if a, b := first.Totals(0, nil), second.Totals(0, nil); a.CPUs[0].Exits != 0 || b.Access["debug-exit"].Exits != 1 {
		t.Errorf("the first counted %d exits and the second %+v; want 0 and 1", a.CPUs[0].Exits, b.Access)
	}
}

// BenchmarkTrace is what tracing adds to an exit on the vCPU's own thread: the
// same exit is told of again and again.
func BenchmarkTrace(b *testing.B) {
	for name, detail := range map[string]bool{"count": false, "detail": true} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b, []byte{0xe6, 0x80}, nil) // out %al, $0x80
			defer m.Trace(&events{}, detail)()
			c, t := m.cpus[0], m.tracing.now.Load()
			c.vcpu.LockThread()
			t.entering(c)
			exit, err := c.vcpu.Run()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				t.entering(c)
				t.left(c, m, exit)
				t.served(c)
			}
		})
	}
}

// BenchmarkExit is an exit for a write to a port, there and back: without a
// trace, with one that only counts, with all details, and with all details
// written as JSON.
func BenchmarkExit(b *testing.B) {
	for _, bm := range []struct {
		name   string
		sink   func() trace.Sink
		detail bool
	}{
		{"off", nil, false},
		{"count", func() trace.Sink { return trace.NewCounters(1) }, false},
		{"detail", func() trace.Sink { return &events{} }, true},
		{"jsonl", func() trace.Sink { return trace.NewOutput(io.Discard, trace.JSONL, trace.Filter{}, nil, nil) }, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			code := []byte{
				0xb9, 0, 0, 0, 0, // mov $N, %ecx
				0xe6, 0x80, //       1: out %al, $0x80
				0xff, 0xc9, //       dec %ecx
				0x75, 0xfa, //       jnz 1b
				0xe6, 0xf4, //       debug exit
			}
			binary.LittleEndian.PutUint32(code[1:], uint32(b.N))
			m := newMachine(b, code, func(c *Config) { c.DebugExit = true })
			if bm.sink != nil {
				counts := &events{}
				end, endCounts := m.Trace(bm.sink(), bm.detail), m.Trace(counts, false)
				defer func() {
					end()
					endCounts()
					b.ReportMetric(float64(counts.lost)/float64(b.N), "lost/op")
				}()
			}
			b.ResetTimer()
			if _, err := m.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// The time in the guest of a vCPU that spins, and of one that is halted, is counted
// though neither exits, and though both were in the guest before.
func TestTraceInGuest(t *testing.T) {
	for name, code := range map[string][]byte{
		"spins": {0xeb, 0xfe},       // jmp .
		"halts": {0xf4, 0xeb, 0xfd}, // hlt; jmp .
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, code, nil)
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() {
				_, err := m.Run(ctx)
				ended <- err
			}()
			for !m.cpus[0].inside.Load() {
				time.Sleep(time.Millisecond)
			}

			counters := trace.NewCounters(1)
			end := m.Trace(counters, false)
			time.Sleep(50 * time.Millisecond)
			before := counters.Totals(m.Uptime(), m.InGuest)
			time.Sleep(200 * time.Millisecond)
			passed := counters.Totals(m.Uptime(), m.InGuest).Since(before)
			end()
			stop()

			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if share := float64(passed.CPUs[0].Guest) / float64(passed.Time); share < 0.95 || share > 1.05 {
				t.Errorf("%.0f%% of the time in the guest; want 100%%", 100*share)
			}
		})
	}
}
