package serial

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestReceiveWaitsForAListener(t *testing.T) {
	reads := func(n int, regs ...uint64) func(guest) {
		return func(g guest) {
			for range n {
				for _, reg := range regs {
					g.in(reg)
				}
			}
		}
	}
	tests := []struct {
		name  string
		guest func(guest)
		want  int
	}{
		{"after reset", func(guest) {}, 0},
		{"interrupt enabled, not connected", func(g guest) { g.out(regIER, ierReceived) }, 1},
		{"probes", func(g guest) { g.out(regIER, ierMask); g.in(regIER) }, 0},
		{"has probed", func(g guest) { g.out(regIER, ierMask); g.in(regIER); g.out(regIER, 0); g.in(regLSR) }, 0},
		{"enables all interrupts, and serves the first", func(g guest) { g.out(regIER, ierMask); g.in(regIIR) }, 1},
		{"all interrupts enabled and connected", func(g guest) { g.out(regIER, ierMask); g.out(regMCR, mcrOut2) }, 1},
		{"interrupt connected, not enabled", func(g guest) { g.out(regMCR, mcrOut2) }, 0},
		{"interrupt enabled and connected", func(g guest) { g.listen(0) }, 1},
		{"interrupt disabled again", func(g guest) { g.listen(0); g.out(regIER, ierTransmit) }, 0},
		{"in loopback mode", func(g guest) { g.listen(0); g.out(regMCR, mcrOut2|mcrLoop) }, 0},
		{"polls", reads(pollReads, regLSR), 1},
		{"has looked at the status", reads(pollReads-1, regLSR), 0},
		{"clears the status", reads(2*pollReads, regLSR, regData, regIIR, regMSR), 0},
		{"sends", func(g guest) {
			for range 2 * pollReads {
				g.in(regLSR)
				g.out(regData, 'x')
			}
		}, 0},
		{"lowers RTS", func(g guest) { g.listen(0); g.out(regMCR, mcrDTR|mcrOut2) }, 0},
		{"has lowered RTS and writes it again", func(g guest) {
			g.listen(0)
			g.out(regMCR, mcrDTR|mcrOut2)
			g.out(regMCR, mcrOut2)
		}, 0},
		{"raises RTS again", func(g guest) {
			g.listen(0)
			g.out(regMCR, mcrOut2)
			g.out(regMCR, mcrOut2|mcrRTS)
		}, 1},
		{"never raised RTS", func(g guest) { g.out(regMCR, mcrOut2); g.out(regIER, ierReceived) }, 1},
		{"raised RTS in loopback mode only", func(g guest) {
			g.out(regMCR, mcrLoop|mcrRTS)
			g.out(regMCR, mcrOut2)
			g.out(regIER, ierReceived)
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			tt.guest(g)
			if n := g.Receive([]byte("ab")); n != tt.want {
				t.Errorf("Receive took %d bytes; want %d", n, tt.want)
			}
		})
	}
}

// Whatever makes Receive take more is told on Ready.
func TestReady(t *testing.T) {
	full := func(g guest) {
		g.listen(fcrEnable)
		g.Receive(make([]byte, fifoSize))
	}
	tests := []struct {
		name        string
		before      func(guest)
		then        func(guest)
		wantReceive int
	}{
		{"interrupt enabled", func(guest) {}, func(g guest) { g.out(regIER, ierReceived) }, 1},
		{"interrupt connected", func(g guest) { g.out(regIER, ierMask) }, func(g guest) { g.out(regMCR, mcrOut2) }, 1},
		{"guest polls", func(guest) {}, func(g guest) {
			for range pollReads {
				g.in(regLSR)
			}
		}, 1},
		{"byte read without a FIFO", func(g guest) { g.listen(0); g.Receive([]byte("x")) }, func(g guest) { g.in(regData) }, 1},
		{"FIFO drained", full, func(g guest) {
			for range fifoSize {
				g.in(regData)
			}
		}, 16},
		{"FIFO cleared", full, func(g guest) { g.out(regFCR, fcrEnable|fcrClearReceive) }, 16},
		{"FIFO switched off", full, func(g guest) { g.out(regFCR, 0) }, 1},
		{"FIFO switched on", func(g guest) { g.listen(0); g.Receive([]byte("x")) }, func(g guest) { g.out(regFCR, fcrEnable) }, 15},
		{"loopback mode left", func(g guest) { g.listen(0); g.out(regMCR, mcrOut2|mcrLoop) }, func(g guest) { g.out(regMCR, mcrOut2|mcrRTS) }, 1},
		{"RTS raised", func(g guest) { g.listen(0); g.out(regMCR, mcrOut2) }, func(g guest) { g.out(regMCR, mcrOut2|mcrRTS) }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			tt.before(g)
			if n := g.Receive([]byte("x")); n != 0 {
				t.Fatalf("Receive took %d bytes too early", n)
			}
			select { // what was told before is known
			case <-g.Ready():
			default:
			}
			tt.then(g)
			select {
			case <-g.Ready():
			default:
				t.Error("Ready has no value")
			}
			if n := g.Receive(make([]byte, 100)); n != tt.wantReceive {
				t.Errorf("Receive took %d bytes; want %d", n, tt.wantReceive)
			}
		})
	}
}

// pump feeds data to the port until all of it is taken, as the console does.
func pump(p *Port, data []byte) {
	for {
		data = data[p.Receive(data):]
		if len(data) == 0 {
			return
		}
		<-p.Ready()
	}
}

// paste is 1 MiB in which no stretch looks like another.
func paste() []byte {
	data := make([]byte, 1<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

// receive runs a guest's driver, which calls got for each byte, against a
// pump, and checks that all of data arrives once and in order.
func receive(t *testing.T, p *Port, data []byte, driver func(got func(byte), done func() bool)) {
	t.Helper()
	go pump(p, data)
	var got []byte
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		driver(func(b byte) { got = append(got, b) }, func() bool { return len(got) >= len(data) })
	}()
	select {
	case <-finished:
	case <-time.After(patience):
		t.Fatal("the input has stalled")
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived of %d, or not the same", len(got), len(data))
	}
}

func TestPasteByInterrupt(t *testing.T) {
	line := newRecorder()
	g := guest{New(line, io.Discard)}
	g.listen(0xc0 | fcrEnable)
	receive(t, g.Port, paste(), func(got func(byte), done func() bool) {
		for !done() {
			<-line.rose // an edge, as the interrupt controller sees it
			for g.in(regIIR)&iirNone == 0 {
				for g.in(regLSR)&lsrReady != 0 {
					got(g.in(regData))
				}
			}
		}
	})
}

func TestPasteByPolling(t *testing.T) {
	for _, tt := range []struct {
		name string
		fcr  uint8
	}{{"no FIFO", 0}, {"FIFO", fcrEnable}} {
		t.Run(tt.name, func(t *testing.T) {
			g, _, _ := newGuest()
			g.out(regFCR, tt.fcr)
			receive(t, g.Port, paste()[:4<<10], func(got func(byte), done func() bool) {
				for !done() {
					if g.in(regLSR)&lsrReady != 0 {
						got(g.in(regData))
					} else {
						runtime.Gosched() // to the pump, where there is one processor
					}
				}
			})
		})
	}
}

// stuck is an output that nobody reads from.
type stuck struct {
	entered, release chan struct{}
	got              []byte
}

func (s *stuck) Write(p []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.release
	s.got = append(s.got, p...)
	return len(p), nil
}

// While a vCPU waits for its output to be read, others use the port.
func TestStuckOutputHoldsUpOnlyWriters(t *testing.T) {
	out := &stuck{entered: make(chan struct{}, 1), release: make(chan struct{})}
	g := guest{New(newRecorder(), out)}
	g.listen(fcrEnable)
	written := make(chan struct{})
	go func() {
		defer close(written)
		g.out(regData, 'a')
		g.out(regData, 'b')
	}()
	<-out.entered

	if n := g.Receive([]byte("in")); n != 2 {
		t.Errorf("Receive took %d bytes; want 2", n)
	}
	if b := g.in(regData); b != 'i' {
		t.Errorf("the guest read %q; want 'i'", b)
	}
	select {
	case <-written:
		t.Error("the write did not wait for the output")
	default:
	}

	close(out.release)
	<-written
	if string(out.got) != "ab" {
		t.Errorf("sent %q; want \"ab\"", out.got)
	}
}
