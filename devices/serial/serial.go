// Package serial is a 16550A UART, the serial port of a PC. National
// Semiconductor's PC16550D data sheet (cited as "PC16550D") names and
// describes its registers.
//
// It differs from the chip in one thing: there is no line, so there is no baud
// rate. A byte sent has left before the guest's write is over, and a byte is
// received as soon as there is room for it.
package serial

import (
	"io"
	"sync"

	"vmm/devices"
)

// Size is the number of ports that the UART occupies.
const Size = 8

// Registers, by offset. With the divisor latch open (lcrDLAB), the first two
// are its low and high byte.
const (
	regData = 0 // read: receiver buffer; write: transmitter holding
	regIER  = 1 // interrupt enable
	regIIR  = 2 // read: interrupt identification
	regFCR  = 2 // write: FIFO control
	regLCR  = 3 // line control
	regMCR  = 4 // modem control
	regLSR  = 5 // line status
	regMSR  = 6 // modem status
	regSCR  = 7 // scratch
)

// Bits of the registers. PC16550D §8.
const (
	ierReceived   = 1 << 0
	ierTransmit   = 1 << 1
	ierLineStatus = 1 << 2
	ierModem      = 1 << 3
	ierMask       = 0x0f

	iirNone       = 1
	iirModem      = 0x0
	iirTransmit   = 0x2
	iirReceived   = 0x4
	iirLineStatus = 0x6
	iirTimeout    = 0xc // received, but fewer than the trigger level
	iirFIFO       = 0xc0

	fcrEnable       = 1 << 0
	fcrClearReceive = 1 << 1

	lcrDLAB = 1 << 7

	mcrDTR  = 1 << 0
	mcrRTS  = 1 << 1
	mcrOut1 = 1 << 2
	mcrOut2 = 1 << 3 // on a PC: connects the interrupt
	mcrLoop = 1 << 4
	mcrMask = 0x1f

	lsrReady   = 1 << 0 // a byte was received
	lsrOverrun = 1 << 1 // and one was lost
	lsrTHRE    = 1 << 5 // transmitter holding register empty
	lsrTEMT    = 1 << 6 // transmitter empty

	msrCTS        = 1 << 4
	msrDSR        = 1 << 5
	msrRI         = 1 << 6
	msrDCD        = 1 << 7
	msrRIDropped  = 1 << 2
	msrDeltaShift = 4 // a line's delta bit is this far below it
)

// fifoSize is the depth of the receive FIFO, in bytes.
const fifoSize = 16

// triggers are the receive trigger levels, by bits 6 and 7 of the FCR.
var triggers = [4]int{1, 4, 8, 14}

// pollReads is how many reads of the line status in a row, with no other
// access between them, tell a guest that polls for input.
const pollReads = 3

// Port is a serial port.
type Port struct {
	irq devices.Line
	out io.Writer

	// send keeps the bytes of two vCPUs in order, and is apart from mu so
	// that a slow reader of the output holds up writers and nobody else.
	send sync.Mutex

	mu    sync.Mutex
	state state
	ready chan struct{}
}

// state is the UART's registers.
type state struct {
	ier, lcr, mcr, scr uint8
	divisor            [2]uint8
	fifoOn             bool
	trigger            int // bytes
	overrun            bool
	modemLines         uint8 // the modem status when it was last looked at
	modemDelta         uint8

	// transmitPending is an interrupt for an empty transmitter that the guest
	// has not seen yet.
	transmitPending bool

	received [fifoSize]uint8
	count    int // of received, oldest first

	polls int // consecutive reads of the line status
}

// New returns a port that drives irq and sends to out. A Write to out may
// block; the guest's write to the port then takes as long.
func New(irq devices.Line, out io.Writer) *Port {
	p := &Port{irq: irq, out: out, ready: make(chan struct{}, 1)}
	p.state.trigger = triggers[0]
	p.state.divisor = [2]uint8{12, 0} // 9600 baud, as a PC's firmware leaves it
	p.state.modemLines = p.state.modem()
	return p
}

var _ devices.Device = (*Port)(nil)

// Receive takes as many bytes as there is room for, and says how many. When
// it is not all of them, a value on Ready tells when to try again.
//
// Nothing is taken before the guest listens: a kernel empties the FIFO when it
// opens the port, and what was typed or piped in before that would be gone. A
// guest listens when it has enabled the interrupt for received bytes, or when
// it polls the line status and does nothing else.
func (p *Port) Receive(data []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	if !s.listening() || s.mcr&mcrLoop != 0 {
		return 0
	}
	n := copy(s.received[s.count:s.depth()], data)
	s.count += n
	if n > 0 {
		p.update()
	}
	return n
}

// Ready has a value whenever Receive may take more than it did.
func (p *Port) Ready() <-chan struct{} { return p.ready }

func (p *Port) signalReady() {
	select {
	case p.ready <- struct{}{}:
	default: // one is waiting already
	}
}

func (s *state) listening() bool { return s.ier&ierReceived != 0 || s.polls >= pollReads }

// depth is the number of bytes that can be received and not yet read.
func (s *state) depth() int {
	if s.fifoOn {
		return fifoSize
	}
	return 1
}

// Read implements devices.Device. Registers are a byte wide; a wider access
// reads ones beyond the first.
func (p *Port) Read(offset uint64, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	if offset != regLSR {
		s.polls = 0
	}
	latch := s.lcr&lcrDLAB != 0
	switch offset {
	case regData:
		if latch {
			data[0] = s.divisor[0]
		} else {
			data[0] = p.pop()
		}
	case regIER:
		if latch {
			data[0] = s.divisor[1]
		} else {
			data[0] = s.ier
		}
	case regIIR:
		id := s.pending()
		if id == iirTransmit {
			s.transmitPending = false
		}
		data[0] = id
		if s.fifoOn {
			data[0] |= iirFIFO
		}
	case regLCR:
		data[0] = s.lcr
	case regMCR:
		data[0] = s.mcr
	case regLSR:
		data[0] = s.lineStatus()
		s.overrun = false
		if s.polls++; s.polls == pollReads {
			p.signalReady()
		}
	case regMSR:
		data[0] = s.modem() | s.modemDelta
		s.modemDelta = 0
	case regSCR:
		data[0] = s.scr
	}
	p.update()
}

// Write implements devices.Device.
func (p *Port) Write(offset uint64, data []byte) {
	v := data[0]
	p.mu.Lock()
	s := &p.state
	s.polls = 0
	latch := s.lcr&lcrDLAB != 0
	if offset == regData && !latch {
		loop := s.mcr&mcrLoop != 0
		p.mu.Unlock()
		p.transmit(v, loop)
		return
	}
	defer p.mu.Unlock()
	switch offset {
	case regData:
		s.divisor[0] = v
	case regIER:
		if latch {
			s.divisor[1] = v
			break
		}
		if v&^s.ier&ierTransmit != 0 {
			// The transmitter is empty, as ever: enabling its interrupt
			// raises it. Linux tests for this.
			s.transmitPending = true
		}
		s.ier = v & ierMask
		if s.listening() {
			p.signalReady()
		}
	case regFCR:
		if on := v&fcrEnable != 0; on != s.fifoOn || v&fcrClearReceive != 0 {
			s.fifoOn = on
			s.count, s.overrun = 0, false
			p.signalReady()
		}
		s.trigger = triggers[0]
		if s.fifoOn {
			s.trigger = triggers[v>>6]
		}
	case regLCR:
		s.lcr = v
	case regMCR:
		s.mcr = v & mcrMask
		s.modemChanged()
		p.signalReady()
	case regSCR:
		s.scr = v
	}
	p.update()
}

// transmit sends a byte: out, or in loopback mode to the receiver.
func (p *Port) transmit(b byte, loop bool) {
	if !loop {
		p.send.Lock()
		// The console remembers its own errors; the guest's port works on.
		_, _ = p.out.Write([]byte{b})
		p.send.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	if loop {
		if s.count < s.depth() {
			s.received[s.count] = b
			s.count++
		} else {
			s.overrun = true
		}
	}
	s.transmitPending = true
	p.update()
}

// pop takes the oldest received byte; 0 when there is none.
func (p *Port) pop() byte {
	s := &p.state
	if s.count == 0 {
		return 0
	}
	b := s.received[0]
	copy(s.received[:], s.received[1:s.count])
	if s.count--; s.count == 0 {
		p.signalReady()
	}
	return b
}

func (s *state) lineStatus() uint8 {
	v := uint8(lsrTHRE | lsrTEMT)
	if s.count > 0 {
		v |= lsrReady
	}
	if s.overrun {
		v |= lsrOverrun
	}
	return v
}

// modem is the upper half of the modem status: the lines from a modem that is
// always there, or in loopback mode the port's own outputs. PC16550D §8.6.
func (s *state) modem() uint8 {
	if s.mcr&mcrLoop == 0 {
		return msrCTS | msrDSR | msrDCD
	}
	var v uint8
	for _, wire := range [...]struct{ out, in uint8 }{
		{mcrRTS, msrCTS}, {mcrDTR, msrDSR}, {mcrOut1, msrRI}, {mcrOut2, msrDCD},
	} {
		if s.mcr&wire.out != 0 {
			v |= wire.in
		}
	}
	return v
}

// modemChanged notes which modem lines have changed. The ring indicator counts
// only when it drops.
func (s *state) modemChanged() {
	lines := s.modem()
	delta := (lines ^ s.modemLines) >> msrDeltaShift
	if lines&msrRI != 0 {
		delta &^= msrRIDropped
	}
	s.modemDelta |= delta
	s.modemLines = lines
}

// pending is the interrupt of the highest priority. PC16550D §8.4, table IV.
func (s *state) pending() uint8 {
	switch {
	case s.ier&ierLineStatus != 0 && s.overrun:
		return iirLineStatus
	case s.ier&ierReceived != 0 && s.count >= s.trigger:
		return iirReceived
	case s.ier&ierReceived != 0 && s.count > 0:
		// Fewer bytes than the guest wants to be woken for. The chip waits
		// for four characters' time; there is no such time here.
		return iirTimeout
	case s.ier&ierTransmit != 0 && s.transmitPending:
		return iirTransmit
	case s.ier&ierModem != 0 && s.modemDelta != 0:
		return iirModem
	}
	return iirNone
}

// update drives the interrupt line. On a PC the chip's output OUT2 connects
// it, and in loopback mode no output leaves the chip.
func (p *Port) update() {
	s := &p.state
	p.irq.Set(s.pending() != iirNone && s.mcr&mcrOut2 != 0 && s.mcr&mcrLoop == 0)
}
