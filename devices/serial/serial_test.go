package serial

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorder is an interrupt line that remembers its level, and tells when it
// rises.
type recorder struct {
	mu    sync.Mutex
	level bool
	rose  chan struct{}
}

func newRecorder() *recorder { return &recorder{rose: make(chan struct{}, 1)} }

func (r *recorder) Set(level bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if level && !r.level {
		select {
		case r.rose <- struct{}{}:
		default:
		}
	}
	r.level = level
}

func (r *recorder) high() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.level
}

// guest reaches a port as a guest does, a byte at a time.
type guest struct{ *Port }

func (g guest) in(reg uint64) uint8 {
	data := []byte{0xff}
	g.Read(reg, data)
	return data[0]
}

func (g guest) out(reg uint64, v uint8) { g.Write(reg, []byte{v}) }

// newGuest returns a port in its first state, its line and its output.
func newGuest() (guest, *recorder, *bytes.Buffer) {
	line, out := newRecorder(), new(bytes.Buffer)
	return guest{New(line, out)}, line, out
}

// listen opens the port for input by interrupt.
func (g guest) listen(fcr uint8) {
	g.out(regMCR, mcrDTR|mcrRTS|mcrOut2)
	g.out(regIER, ierReceived|ierLineStatus)
	g.out(regFCR, fcr)
}

func TestRegistersAfterReset(t *testing.T) {
	g, line, _ := newGuest()
	want := map[uint64]uint8{
		regData: 0, regIER: 0, regIIR: iirNone, regLCR: 0, regMCR: 0,
		regLSR: lsrTHRE | lsrTEMT, regMSR: msrCTS | msrDSR | msrDCD, regSCR: 0,
	}
	for reg, v := range want {
		if got := g.in(reg); got != v {
			t.Errorf("register %d is %#x; want %#x", reg, got, v)
		}
	}
	if line.high() {
		t.Error("the interrupt line is high")
	}
}

func TestPlainRegistersHoldTheirBits(t *testing.T) {
	tests := []struct {
		name string
		reg  uint64
		want uint8 // after ones were written
	}{
		{"IER", regIER, 0x0f},
		{"LCR", regLCR, 0xff},
		{"MCR", regMCR, 0x1f},
		{"SCR", regSCR, 0xff},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			g.out(tt.reg, 0xff)
			if got := g.in(tt.reg); got != tt.want {
				t.Errorf("after ff it reads as %#x; want %#x", got, tt.want)
			}
			g.out(tt.reg, 0)
			if got := g.in(tt.reg); got != 0 {
				t.Errorf("after 0 it reads as %#x", got)
			}
		})
	}
}

func TestDivisorLatch(t *testing.T) {
	g, _, out := newGuest()
	g.out(regIER, ierReceived)
	g.out(regLCR, lcrDLAB|3)
	g.out(0, 0x34)
	g.out(1, 0x12)
	if lo, hi := g.in(0), g.in(1); lo != 0x34 || hi != 0x12 {
		t.Errorf("divisor reads as %#x, %#x; want 0x34, 0x12", lo, hi)
	}
	g.out(regLCR, 3)
	if ier := g.in(regIER); ier != ierReceived {
		t.Errorf("with the latch closed IER is %#x; want %#x", ier, ierReceived)
	}
	if out.Len() != 0 {
		t.Errorf("the divisor was sent: % x", out.Bytes())
	}
}

// A wide access reaches the register at its own offset and no other.
func TestWideAccess(t *testing.T) {
	g, _, out := newGuest()
	g.out(regSCR, 0x5a)
	data := []byte{0xff, 0xff, 0xff, 0xff}
	g.Read(regSCR, data)
	if diff := cmp.Diff([]byte{0x5a, 0xff, 0xff, 0xff}, data); diff != "" {
		t.Error(diff)
	}
	g.Write(regData, []byte{'a', 'b'})
	if out.String() != "a" {
		t.Errorf("sent %q; want \"a\"", out)
	}
}

func TestLoopbackMirrorsModemLines(t *testing.T) {
	tests := []struct {
		name     string
		mcr, msr uint8
	}{
		{"none", 0, 0},
		{"RTS to CTS", mcrRTS, msrCTS},
		{"DTR to DSR", mcrDTR, msrDSR},
		{"OUT1 to RI", mcrOut1, msrRI},
		{"OUT2 to DCD", mcrOut2, msrDCD},
		{"all", 0x0f, 0xf0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			g.out(regMCR, mcrLoop|tt.mcr)
			if got := g.in(regMSR) & 0xf0; got != tt.msr {
				t.Errorf("MSR is %#x; want %#x", got, tt.msr)
			}
		})
	}
}

func TestModemDelta(t *testing.T) {
	g, line, _ := newGuest()
	const dCTS, tRI = 1 << 0, 1 << 2
	steps := []struct {
		name string
		mcr  uint8
		msr  uint8
	}{
		{"into loopback every line drops", mcrLoop, 0x0b},
		{"CTS rises", mcrLoop | mcrRTS, msrCTS | dCTS},
		{"nothing changes", mcrLoop | mcrRTS, msrCTS},
		{"CTS falls, RI rises, which does not count", mcrLoop | mcrOut1, msrRI | dCTS},
		{"RI falls", mcrLoop, tRI},
	}
	for _, s := range steps {
		g.out(regMCR, s.mcr)
		if got := g.in(regMSR); got != s.msr {
			t.Errorf("%s: MSR is %#x; want %#x", s.name, got, s.msr)
		}
	}

	g.out(regIER, ierModem)
	g.out(regMCR, mcrOut2) // out of loopback: CTS, DSR and DCD rise
	if !line.high() || g.in(regIIR) != iirModem {
		t.Error("no interrupt for changed modem lines")
	}
	g.in(regMSR)
	if line.high() || g.in(regIIR) != iirNone {
		t.Error("reading MSR did not end the interrupt")
	}
}

func TestLoopbackReceivesWhatIsSent(t *testing.T) {
	g, line, out := newGuest()
	g.listen(fcrEnable)
	g.out(regMCR, mcrLoop|mcrOut2)
	var want, got []byte
	for i := range byte(fifoSize + 1) { // one more than there is room for
		g.out(regData, i)
		want = append(want, i)
	}
	if n := g.Receive([]byte("x")); n != 0 {
		t.Errorf("Receive took %d bytes in loopback mode", n)
	}
	if lsr := g.in(regLSR); lsr != lsrReady|lsrOverrun|lsrTHRE|lsrTEMT {
		t.Errorf("LSR is %#x; want ready, overrun and empty", lsr)
	}
	if lsr := g.in(regLSR); lsr&lsrOverrun != 0 {
		t.Error("reading LSR did not clear the overrun")
	}
	for g.in(regLSR)&lsrReady != 0 {
		got = append(got, g.in(regData))
	}
	if diff := cmp.Diff(want[:fifoSize], got); diff != "" {
		t.Error(diff)
	}
	if out.Len() != 0 {
		t.Errorf("%q left the port", out)
	}
	if line.high() {
		t.Error("the interrupt left the chip in loopback mode")
	}
}

func TestOverrunInterrupt(t *testing.T) {
	g, _, _ := newGuest()
	g.out(regIER, ierLineStatus|ierReceived|ierTransmit)
	g.out(regMCR, mcrLoop)
	g.out(regData, 'a')
	g.out(regData, 'b') // without a FIFO there is room for one
	var got []uint8
	got = append(got, g.in(regIIR))
	g.in(regLSR)
	got = append(got, g.in(regIIR))
	g.in(regData)
	got = append(got, g.in(regIIR), g.in(regIIR))
	want := []uint8{iirLineStatus, iirReceived, iirTransmit, iirNone}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("interrupts, by priority: %s", diff)
	}
}

func TestTransmitInterrupt(t *testing.T) {
	g, line, out := newGuest()
	g.out(regMCR, mcrOut2)
	check := func(when string, want bool) {
		t.Helper()
		if line.high() != want {
			t.Errorf("%s: interrupt %v; want %v", when, !want, want)
		}
	}
	g.out(regData, 'a')
	check("sent with the interrupt disabled", false)
	g.out(regIER, ierTransmit)
	check("enabled while empty", true)
	if iir := g.in(regIIR); iir != iirTransmit {
		t.Errorf("IIR is %#x; want %#x", iir, iirTransmit)
	}
	check("identified", false)
	g.out(regIER, ierTransmit)
	check("enabled again without a change", false)
	g.out(regData, 'b')
	check("sent, and empty again", true)
	g.out(regIER, 0)
	check("disabled", false)
	g.out(regIER, ierTransmit)
	check("enabled", true)
	g.out(regMCR, 0) // as xv6 and NuttX leave it
	check("without OUT2", true)
	if out.String() != "ab" {
		t.Errorf("sent %q; want \"ab\"", out)
	}
}

// Reading IIR clears the transmit interrupt only when it is what it reports.
func TestTransmitInterruptWaitsBehindReceive(t *testing.T) {
	g, line, _ := newGuest()
	g.listen(fcrEnable)
	g.out(regIER, ierReceived|ierTransmit)
	g.Receive([]byte("x"))
	if iir := g.in(regIIR); iir != iirFIFO|iirReceived {
		t.Errorf("IIR is %#x; want a received byte first", iir)
	}
	g.in(regData)
	if !line.high() || g.in(regIIR) != iirFIFO|iirTransmit {
		t.Error("the transmit interrupt was lost")
	}
}

func TestReceiveTrigger(t *testing.T) {
	const timeout, received = iirFIFO | iirTimeout, iirFIFO | iirReceived
	tests := []struct {
		name string
		fcr  uint8
		n    int
		iir  uint8
	}{
		{"no FIFO", 0, 1, iirReceived},
		{"no FIFO, other bits do not count", 0xc0, 1, iirReceived},
		{"trigger 1", fcrEnable, 1, received},
		{"trigger 4, below", 0x40 | fcrEnable, 3, timeout},
		{"trigger 4", 0x40 | fcrEnable, 4, received},
		{"trigger 8, below", 0x80 | fcrEnable, 7, timeout},
		{"trigger 8", 0x80 | fcrEnable, 8, received},
		{"trigger 14, below", 0xc0 | fcrEnable, 13, timeout},
		{"trigger 14", 0xc0 | fcrEnable, 14, received},
		{"full", 0xc0 | fcrEnable, 16, received},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, line, _ := newGuest()
			g.listen(tt.fcr)
			data := make([]byte, tt.n)
			if n := g.Receive(data); n != tt.n {
				t.Fatalf("Receive took %d of %d bytes", n, tt.n)
			}
			if !line.high() {
				t.Error("no interrupt")
			}
			if iir := g.in(regIIR); iir != tt.iir {
				t.Errorf("IIR is %#x; want %#x", iir, tt.iir)
			}
			for range tt.n {
				g.in(regData)
			}
			if line.high() || g.in(regIIR)&0xf != iirNone {
				t.Error("an interrupt with nothing received")
			}
		})
	}
}

func TestReceiveNeverOverruns(t *testing.T) {
	for _, tt := range []struct {
		name string
		fcr  uint8
		room int
	}{{"no FIFO", 0, 1}, {"FIFO", fcrEnable, fifoSize}} {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			g.listen(tt.fcr)
			data := []byte("0123456789abcdefghijklmnop")
			n := g.Receive(data)
			if n != tt.room {
				t.Errorf("Receive took %d bytes; want %d", n, tt.room)
			}
			if n := g.Receive(data); n != 0 {
				t.Errorf("full, Receive took %d more", n)
			}
			var got []byte
			for {
				lsr := g.in(regLSR)
				if lsr&lsrOverrun != 0 {
					t.Fatal("overrun")
				}
				if lsr&lsrReady == 0 {
					break
				}
				got = append(got, g.in(regData))
			}
			if !slices.Equal(got, data[:tt.room]) {
				t.Errorf("the guest read %q; want %q", got, data[:tt.room])
			}
		})
	}
}

func TestFIFOControl(t *testing.T) {
	const clear = fcrClearReceive
	tests := []struct {
		name        string
		first, then uint8
		received    string // what is left of "ab"
	}{
		{"on again", fcrEnable, fcrEnable, "ab"},
		{"cleared", fcrEnable, fcrEnable | clear, ""},
		{"off", fcrEnable, 0, ""},
		{"on keeps the byte that was there", 0, fcrEnable, "a"},
		{"clear without a FIFO", 0, clear, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			g.listen(tt.first)
			g.Receive([]byte("ab"))
			g.out(regFCR, tt.then)
			var got []byte
			for g.in(regLSR)&lsrReady != 0 {
				got = append(got, g.in(regData))
			}
			if string(got) != tt.received {
				t.Errorf("%q is left; want %q", got, tt.received)
			}
		})
	}
}

func FuzzPort(f *testing.F) {
	f.Add([]byte{regMCR | 0x80, mcrOut2, regIER | 0x80, ierReceived, 0x40, regLSR, regData})
	f.Add([]byte{regFCR | 0x80, fcrEnable, regMCR | 0x80, mcrLoop, 0x80, 1, 0x80, 2, regLSR})
	f.Fuzz(func(t *testing.T, script []byte) {
		line := newRecorder()
		g := guest{New(line, new(bytes.Buffer))}
		for len(script) > 1 {
			op, v := script[0], script[1]
			switch reg := uint64(op & 7); {
			case op&0x80 != 0:
				g.out(reg, v)
				script = script[1:]
			case op&0x40 != 0:
				if n := g.Receive(script); n > fifoSize {
					t.Fatalf("Receive took %d bytes", n)
				}
			default:
				g.in(reg)
			}
			script = script[1:]
			s := &g.state
			if s.count > s.depth() {
				t.Fatalf("%d bytes in a FIFO of %d", s.count, s.depth())
			}
			// OUT2 does not matter: guests rely on what QEMU's port does.
			if line.high() && s.ier == 0 {
				t.Fatal("an interrupt, and none is enabled")
			}
		}
	})
}
