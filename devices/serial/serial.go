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
	sent [1]byte // what goes to out, so that no byte is an allocation

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

	// stopped: the guest has lowered RTS, which asks the other end of the
	// line to stop sending.
	stopped bool

	// transmitPending is an interrupt for an empty transmitter that the guest
	// has not seen yet.
	transmitPending bool

	received [fifoSize]uint8
	count    int // of received, oldest first

	polls int // consecutive reads of the line status

	// probing: the guest has enabled all interrupts, which may be to see whether
	// there is a chip that remembers, and has done nothing else since.
	probing bool
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
// guest listens when the interrupt for received bytes is enabled, or else when it
// polls the line status and does nothing between. A kernel that probes for the
// chip enables all four interrupts for a moment, without OUT2, and does nothing else
// before it disables them.
func (p *Port) Receive(data []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	if !s.listening() {
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

// listening reports whether the guest takes what it receives.
func (s *state) listening() bool {
	switch {
	case s.mcr&mcrLoop != 0:
		return false // the receiver is connected to the transmitter
	case s.ier&ierReceived != 0 && !s.probing:
		return !s.stopped
	}
	return s.polls >= pollReads
}

// depth is the number of bytes that can be received and not yet read.
func (s *state) depth() int {
	if s.fifoOn {
		return fifoSize
	}
	return 1
}

// Read implements devices.Device.
func (p *Port) Read(offset uint64, data []byte) { devices.EachByte(offset, data, p.read) }

// Write implements devices.Device.
func (p *Port) Write(offset uint64, data []byte) { devices.EachByte(offset, data, p.write) }

// read is a read of one register.
func (p *Port) read(offset uint64, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	if offset != regLSR {
		s.polls = 0
	}
	latch := s.lcr&lcrDLAB != 0
	p.probed(offset)
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

// write is a write of one register.
func (p *Port) write(offset uint64, data []byte) {
	v := data[0]
	p.mu.Lock()
	s := &p.state
	s.polls = 0
	latch := s.lcr&lcrDLAB != 0
	p.probed(offset)
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
		s.probing = s.ier == ierMask && s.mcr&mcrOut2 == 0
		if s.listening() {
			p.signalReady()
		}
	case regFCR:
		p.setFIFO(v)
	case regLCR:
		s.lcr = v
	case regMCR:
		p.setModem(v & mcrMask)
	case regSCR:
		s.scr = v
	}
	p.update()
}

// probed notes an access to a register: any other than the interrupt enable's ends
// what may have been a probe.
func (p *Port) probed(offset uint64) {
	if s := &p.state; s.probing && offset != regIER {
		s.probing = false
		p.signalReady()
	}
}

// transmit sends a byte: out, or in loopback mode to the receiver.
func (p *Port) transmit(b byte, loop bool) {
	if !loop {
		p.send.Lock()
		p.sent[0] = b
		// A line does not tell whether somebody listens at its other end.
		_, _ = p.out.Write(p.sent[:])
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

// setFIFO takes what the guest wrote to the FIFO control register.
//
// To switch the FIFO off empties it. To switch it on does not: Linux does so
// after it has enabled the interrupt, and a byte may have come between.
func (p *Port) setFIFO(v uint8) {
	s := &p.state
	on := v&fcrEnable != 0
	if s.fifoOn && !on || on && v&fcrClearReceive != 0 {
		s.count = 0
	}
	s.fifoOn = on
	s.trigger = triggers[0]
	if on { // else the other bits have no meaning
		s.trigger = triggers[v>>6]
	}
	p.signalReady()
}

// setModem takes what the guest wrote to the modem control register.
func (p *Port) setModem(v uint8) {
	s := &p.state
	// In loopback mode the outputs are disconnected and read as low.
	rts := func(mcr uint8) bool { return mcr&(mcrRTS|mcrLoop) == mcrRTS }
	// A guest that has never raised RTS does not use it.
	s.stopped = !rts(v) && (s.stopped || rts(s.mcr))
	s.mcr = v
	s.modemChanged()
	p.signalReady()
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
// always there, or in loopback mode the port's own outputs. PC16550D, "Modem
// Control Register".
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

// pending is the interrupt of the highest priority. PC16550D, "Interrupt
// Identification Register".
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

// update drives the interrupt line. On a PC the chip's output OUT2 connects it;
// as in QEMU it is connected always, which kernels rely on that set no OUT2.
func (p *Port) update() { p.irq.Set(p.state.pending() != iirNone) }
