package serial

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

// Bits of the registers. PC16550D, "Registers".
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
	mcrOut2 = 1 << 3 // on a PC: connects the interrupt; here it is connected always
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
