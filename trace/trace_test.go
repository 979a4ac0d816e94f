package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// list is a sink that keeps records.
type list struct {
	mu  sync.Mutex
	all []Record
}

func (l *list) Record(r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, *r)
}

func (l *list) Flush() {}

// Records of several streams come in the order of their times, all of them, also
// those that come late.
func TestOrder(t *testing.T) {
	r := NewRecorder(time.Now())
	var l list
	r.Add(&l)
	const streams, each = 4, 2000
	var group sync.WaitGroup
	for range streams {
		s := r.NewStream()
		group.Go(func() {
			for i := range each {
				s.Put(&Record{Kind: Pop, Time: r.Now(), Head: uint16(i)})
			}
		})
	}
	group.Wait()
	if n := r.Remove(&l); n != 0 {
		t.Errorf("%d sinks are left", n)
	}
	r.Close()
	for i := range l.all[1:] {
		if l.all[i].Time > l.all[i+1].Time {
			t.Fatalf("record %d is of %d, and the next of %d", i, l.all[i].Time, l.all[i+1].Time)
		}
	}
	if len(l.all) != streams*each {
		t.Errorf("%d records; want %d", len(l.all), streams*each)
	}
}

// stuck is a sink that stands still until it is let go.
type stuck struct {
	list
	free chan struct{}
}

func (s *stuck) Record(r *Record) {
	<-s.free
	s.list.Record(r)
}

// When a sink stands still, whoever puts records does not: they are dropped, and
// counted.
func TestLost(t *testing.T) {
	r := NewRecorder(time.Now())
	sink := stuck{free: make(chan struct{})}
	r.Add(&sink)
	s := r.NewStream()
	const n = 5 * streamSize
	for range n {
		s.Put(&Record{Kind: Pop, Time: r.Now()})
	}
	close(sink.free)
	r.Remove(&sink)
	r.Close()
	var kept, lost uint64
	for _, r := range sink.all {
		if r.Kind == Lost {
			lost += r.Lost
		} else {
			kept++
		}
	}
	if kept+lost != n || lost == 0 {
		t.Errorf("%d kept and %d lost of %d", kept, lost, n)
	}
}

// symbols is a table of two functions.
type symbols struct{}

func (symbols) Symbol(addr uint64) (string, uint64) {
	switch {
	case addr >= 0x2000:
		return "", 0
	case addr >= 0x1000:
		return "outb", addr - 0x1000
	}
	return "start", addr
}

// code is code of 64 bits around RIP.
func code(before, after []byte) Code {
	c := Code{Mode: 64, Before: uint8(len(before))}
	c.Len = uint8(copy(c.Bytes[:], append(append([]byte{}, before...), after...)))
	return c
}

// The instruction is found at RIP, or before it, by what it does.
func TestInstruction(t *testing.T) {
	regs := func(rip uint64, set ...uint64) Registers {
		r := Registers{RIP: rip, Valid: true}
		copy(r.GPR[:], set)
		return r
	}
	for name, tt := range map[string]struct {
		r        Record
		insn     string
		at       uint64
		symbolic string
	}{
		"out at RIP": {
			Record{Access: Port, Write: true, Size: 1, Registers: regs(0x1003), Code: code([]byte{0x90}, []byte{0xee, 0xc3})},
			"out dx, al", 0x1003, "outb+0x3",
		},
		"out before RIP": {
			Record{Access: Port, Write: true, Size: 1, Registers: regs(0x1001), Code: code([]byte{0x90, 0x90, 0xee}, []byte{0xc3})},
			"out dx, al", 0x1000, "outb",
		},
		"rep outs dx, byte ptr ds:[rsi]": {
			Record{Access: Port, Write: true, Size: 1, Count: 9, Registers: regs(0x1002), Code: code([]byte{0x90, 0xf3, 0x6e}, []byte{0xc3})},
			"rep outs dx, byte ptr ds:[rsi]", 0x1000, "outb",
		},
		// mov %eax, 4(%rdi), and then a return. Its last two bytes would be an
		// add to another address.
		"store before RIP": {
			Record{Access: Memory, Write: true, Size: 4, Addr: 0xfee0_0304, Registers: regs(0x1003, 0, 0, 0, 0, 0, 0, 0, 0xffff_8000_0000_0300), Code: code([]byte{0x90, 0x89, 0x47, 0x04}, []byte{0xc3})},
			"mov dword ptr [rdi+0x4], eax", 0x1000, "outb",
		},
		"load at RIP": {
			Record{Access: Memory, Size: 4, Addr: 0x50, Registers: regs(0x3000, 0x50), Code: code(nil, []byte{0x8b, 0x00})},
			"mov eax, dword ptr [rax]", 0x3000, "",
		},
		"relative to RIP": {
			Record{Access: Memory, Write: true, Size: 1, Addr: 0x7_0017, Registers: regs(0x1007), Code: code([]byte{0x88, 0x05, 0x10, 0, 0, 0}, []byte{0xc3})},
			"mov byte ptr [outb+0x17], al", 0x1001, "outb+0x1",
		},
		"no access": {
			Record{Registers: regs(0x1000), Code: code(nil, []byte{0x0f, 0x0b})},
			"ud2", 0x1000, "outb",
		},
		"unreadable": {
			Record{Access: Port, Registers: regs(0x1000)}, "", 0x1000, "outb",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := decoder{symbols: symbols{}}
			want := insn{tt.insn, tt.symbolic, tt.at}
			for range 2 { // the second time it is known
				if got := d.decode(&tt.r); got != want {
					t.Errorf("%+v; want %+v", got, want)
				}
			}
		})
	}
}

// FuzzInstruction feeds code of the guest's choice to the disassembler.
func FuzzInstruction(f *testing.F) {
	f.Add([]byte{0x90, 0xee, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x00}, uint8(2), uint8(64), uint8(1), uint64(0x1000))
	f.Add([]byte{0x66, 0x67, 0xf3, 0xa5}, uint8(0), uint8(16), uint8(2), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, before, mode, access uint8, rip uint64) {
		r := Record{Access: Access(access % 3), Size: 4, Registers: Registers{RIP: rip, Valid: true}}
		r.Code.Len = uint8(copy(r.Code.Bytes[:], b))
		r.Code.Before = min(before, r.Code.Len)
		r.Code.Mode = [...]uint8{16, 32, 64}[mode%3]
		NewInterpreter(symbols{}).Event(&r)
	})
}

// samples are one record of each kind.
func samples() []Record {
	return []Record{
		{Kind: Exit, Time: 2000, Entered: 500, Done: 2700, VCPU: 1, Reason: "port I/O", Device: "COM1", Register: "LCR",
			Access: Port, Write: true, Size: 1, Count: 1, Addr: 0x3fb, Value: 0x83},
		{Kind: Exit, Time: 2800, Entered: 2800, Done: 2900, VCPU: 0, Reason: "interrupted"},
		{Kind: Interrupt, Time: 3000, Device: "COM1", GSI: 4, Level: Raise},
		{Kind: Interrupt, Time: 3001, Device: "virtio-blk0", Message: true, MSIAddr: 0xfee0_1004, MSIData: 0x4123},
		{Kind: Doorbell, Time: 4000, Device: "virtio-blk0", Queue: 0},
		{Kind: Pop, Time: 4100, Device: "virtio-blk0", Head: 7, Readable: 16, Writable: 4097},
		{Kind: Push, Time: 5000, Device: "virtio-blk0", Head: 7, Written: 4097},
		{Kind: Lost, Time: 6000, Lost: 12},
	}
}

func encode(t *testing.T, f Format) string {
	t.Helper()
	var b bytes.Buffer
	o := NewOutput(&b, f, Filter{}, nil, func(err error) { t.Error(err) })
	for _, r := range samples() {
		o.Record(&r)
	}
	o.Flush()
	o.End()
	return b.String()
}

func TestText(t *testing.T) {
	want := `    0.000002 cpu1  port I/O   COM1 LCR <- 0x83  guest 1.5µs, vmm 700ns
    0.000003 cpu0  interrupted  guest 0s, vmm 100ns
    0.000003       interrupt  COM1 GSI 4 raise
    0.000003       interrupt  virtio-blk0 message 0x4123 to 0xfee01004 (vector 0x23 to logical APIC 0x1, lowest priority)
    0.000004       doorbell   virtio-blk0 queue 0
    0.000004       pop        virtio-blk0 queue 0 chain 7: 16 bytes from the driver, room for 4097; 100ns after the doorbell
    0.000005       push       virtio-blk0 queue 0 chain 7: 4097 bytes to the driver; took 900ns
    0.000006       lost       12 records: the trace could not keep up
`
	if diff := cmp.Diff(want, encode(t, Text)); diff != "" {
		t.Error(diff)
	}
}

// What is written as JSON is read back as the same events.
func TestJSONL(t *testing.T) {
	d := json.NewDecoder(strings.NewReader(encode(t, JSONL)))
	i := NewInterpreter(nil)
	for _, r := range samples() {
		var got Event
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(i.Event(&r), got); diff != "" {
			t.Error(diff)
		}
	}
}

// The Chrome trace is an array of objects, and spans that begin end.
func TestChrome(t *testing.T) {
	var events []chromeEvent
	if err := json.Unmarshal([]byte(encode(t, Chrome)), &events); err != nil {
		t.Fatal(err)
	}
	open := map[string]int{}
	phases := map[string]int{}
	for _, e := range events {
		phases[e.Phase]++
		switch e.Phase {
		case "b":
			open[e.ID]++
		case "e":
			open[e.ID]--
		case "X":
			if e.Duration == nil || e.Time < 0 {
				t.Errorf("%+v has no duration", e)
			}
		}
	}
	if open["virtio-blk0.0.7"] != 0 || phases["b"] != 1 || phases["X"] != 4 {
		t.Errorf("phases %v, requests left open %v", phases, open)
	}
}

func TestFilter(t *testing.T) {
	for text, want := range map[string]int{
		"":                          8,
		"kind=exit":                 3,
		"kind=exit,doorbell":        4,
		"device=COM?":               3,
		"device=virtio-*":           5,
		"device=COM1 op=write":      2,
		"op=read,write":             2,
		"reason=port*":              2,
		"reason=port-I/O":           2,
		"register=LCR,MCR":          2,
		"vcpu=0":                    2,
		"vmm=500ns":                 2,
		"guest=1s":                  1,
		"symbol=*":                  1,
		"kind=pop device=virtio-9p": 1,
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		got, i := 0, NewInterpreter(nil)
		for _, r := range samples() {
			if e := i.Event(&r); f.Match(&e) {
				got++
			}
		}
		if got != want { // records that were lost are always told of
			t.Errorf("%q chooses %d; want %d", text, got, want)
		}
	}
	for _, text := range []string{"kind", "kind=", "kind=nonsense", "colour=red", "vcpu=-1", "vmm=soon", "vmm=-1s", "device=[", "op=in"} {
		if _, err := ParseFilter(text); err == nil {
			t.Errorf("%q is taken for a filter", text)
		}
	}
}

// full is a disk that takes some bytes and no more.
type full struct{ room int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

// An output that cannot be written to says so once.
func TestFullDisk(t *testing.T) {
	var errs []error
	o := NewOutput(&full{200}, JSONL, Filter{}, nil, func(err error) { errs = append(errs, err) })
	for range 3 {
		for _, r := range samples() {
			o.Record(&r)
			o.Flush()
		}
	}
	o.End()
	if len(errs) != 1 || !errors.Is(errs[0], errFull) {
		t.Errorf("told of %v; want %v once", errs, errFull)
	}
}

func TestCounters(t *testing.T) {
	c := NewCounters(2)
	for _, r := range samples() {
		c.Record(&r)
	}
	want := Totals{
		Time:    9,
		Reasons: map[string]Count{"port I/O": {1, 700}, "interrupted": {1, 100}},
		Access:  map[string]Count{"COM1": {1, 700}},
		CPUs:    []CPUCount{{1, 0, 100}, {1, 1500, 700}},
		Devices: map[string]DeviceCount{"COM1": {Interrupts: 1}, "virtio-blk0": {1, 1, 1}},
		Lost:    12,
	}
	if diff := cmp.Diff(want, c.Totals(9, nil)); diff != "" {
		t.Error(diff)
	}
}

// A vCPU that stays in the guest is counted all the same, and no count shrinks when
// its exit has yet to be recorded.
func TestCountersInGuest(t *testing.T) {
	c := NewCounters(1)
	inside := func(ns int64) func() []int64 { return func() []int64 { return []int64{ns} } }
	var got []int64
	look := func(ns int64) { got = append(got, c.Totals(0, inside(ns)).CPUs[0].Guest) }

	look(100)
	look(200)
	look(0) // it has left, and the record is on its way
	c.Record(&Record{Kind: Exit, Entered: 1000, Time: 1250, Done: 1260})
	look(0)
	look(50)

	if diff := cmp.Diff([]int64{100, 200, 200, 250, 300}, got); diff != "" {
		t.Error(diff)
	}
}
