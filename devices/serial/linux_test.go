package serial

import (
	"slices"
	"testing"
)

// The tests in this file do what Linux 6.12 does in
// drivers/tty/serial/8250/8250_port.c, whose functions they name.

// eager is a guest that is sent input whenever the port takes some: after each
// of its accesses.
type eager struct {
	guest
	input []byte
}

func (e *eager) send()                   { e.input = e.input[e.Receive(e.input):] }
func (e *eager) in(reg uint64) uint8     { defer e.send(); return e.guest.in(reg) }
func (e *eager) out(reg uint64, v uint8) { defer e.send(); e.guest.out(reg, v) }
func (e *eager) outs(reg uint64, v ...uint8) {
	for _, b := range v {
		e.out(reg, b)
	}
}

const (
	modeA     = lcrDLAB // UART_LCR_CONF_MODE_A
	modeB     = 0xbf    // UART_LCR_CONF_MODE_B
	clearBoth = fcrEnable | fcrClearReceive | 1<<2
	linuxFCR  = fcrEnable | 0x80 // of a 16550A: trigger 8
)

// autoconfig finds out what kind of UART there is.
func (e *eager) autoconfig(t *testing.T) {
	t.Helper()
	check := func(what string, got, want uint8) {
		t.Helper()
		if got != want {
			t.Errorf("autoconfig: %s: %#x; want %#x", what, got, want)
		}
	}
	ier := e.in(regIER)
	e.out(regIER, 0)
	check("IER cleared", e.in(regIER)&0xf, 0)
	e.out(regIER, 0xf)
	check("IER set", e.in(regIER)&0xf, 0xf)
	e.out(regIER, ier)

	mcr, lcr := e.in(regMCR), e.in(regLCR)
	e.out(regMCR, mcrLoop|mcrOut2|mcrRTS)
	check("loopback", e.in(regMSR)&0xf0, msrDCD|msrCTS)
	e.out(regMCR, mcr)

	e.out(regLCR, modeB)
	e.out(regFCR, 0) // EFR, on chips that have one
	e.out(regLCR, 0)
	e.out(regFCR, fcrEnable)
	check("FIFO bits of IIR", e.in(regIIR)&iirFIFO, iirFIFO)
	e.variants(t)

	e.out(regLCR, lcr)
	e.out(regMCR, mcr)
	e.outs(regFCR, fcrEnable, clearBoth, 0)
	e.in(regData)
	e.out(regIER, 0)
}

// variants is autoconfig_16550a: it looks for chips that are more than a
// 16550A, and must find none of them.
func (e *eager) variants(t *testing.T) {
	t.Helper()
	for _, mode := range []uint8{modeA, modeB} {
		if e.out(regLCR, mode); e.in(regFCR) == 0 {
			t.Errorf("taken for a 16650: an EFR at LCR %#x", mode)
		}
	}
	e.out(regLCR, 0)
	mcr := e.in(regMCR)
	e.out(regLCR, 0xe0) // bank 2
	if before := e.in(2); (before^mcr)&mcrLoop == 0 {
		e.out(regLCR, 0)
		e.out(regMCR, mcr^mcrLoop)
		e.out(regLCR, 0xe0)
		after := e.in(2)
		e.out(regLCR, 0)
		e.out(regMCR, mcr)
		if (after^mcr)&mcrLoop != 0 {
			t.Error("taken for a NS16550A with banks")
		}
	}
	const deep = 1 << 5 // of FCR and IIR: 64 bytes
	for _, lcr := range []uint8{0, modeA} {
		e.out(regLCR, lcr)
		e.out(regFCR, fcrEnable|deep)
		if e.in(regIIR)&deep != 0 {
			t.Errorf("taken for a 16750 at LCR %#x", lcr)
		}
		e.out(regFCR, fcrEnable)
	}
	e.out(regLCR, 0)
	const uue = 1 << 6
	ier := e.in(regIER)
	e.out(regIER, ier&^uue)
	e.out(regIER, ier|uue)
	if e.in(regIER)&uue != 0 {
		t.Error("taken for an XScale UART")
	}
	e.out(regIER, ier)
	if n := e.sizeFIFO(); n != 16 {
		t.Errorf("size_fifo counts %d bytes; want 16", n)
	}
}

func (e *eager) sizeFIFO() (n int) {
	e.out(regLCR, 0)
	fcr, mcr := e.in(regIIR), e.in(regMCR)
	e.out(regFCR, clearBoth)
	e.out(regMCR, mcrLoop)
	for i := range 256 {
		e.out(regData, uint8(i))
	}
	for ; e.in(regLSR)&lsrReady != 0; n++ {
		e.in(regData)
	}
	e.out(regFCR, fcr)
	e.out(regMCR, mcr)
	return n
}

// startup is serial8250_do_startup and serial8250_do_set_termios.
func (e *eager) startup(t *testing.T) {
	t.Helper()
	drop := func() {
		for _, reg := range []uint64{regLSR, regData, regIIR, regMSR} {
			e.in(reg)
		}
	}
	e.outs(regFCR, fcrEnable, clearBoth, 0)
	drop()
	if e.in(regLSR) == 0xff {
		t.Error("startup: no UART")
	}
	for i := range 2 {
		e.out(regIER, ierTransmit)
		if iir := e.in(regIIR); iir&iirNone != 0 {
			t.Errorf("startup: UART_BUG_THRE: no interrupt when enabled for time %d", i+1)
		}
		e.out(regIER, 0)
	}
	e.out(regLCR, 3)
	e.out(regMCR, mcrDTR|mcrOut2)
	e.out(regIER, ierTransmit)
	if e.in(regLSR)&lsrTEMT != 0 && e.in(regIIR)&iirNone != 0 {
		t.Error("startup: UART_BUG_TXEN")
	}
	e.out(regIER, 0)
	drop()

	// set_termios: the interrupt comes before the FIFO.
	e.out(regIER, ierReceived|ierLineStatus)
	e.out(regLCR, lcrDLAB|3)
	e.out(0, 1)
	e.out(1, 0)
	e.out(regLCR, 3)
	e.outs(regFCR, fcrEnable, linuxFCR)
	e.out(regMCR, mcrDTR|mcrOut2)
	e.out(regMCR, mcrDTR|mcrRTS|mcrOut2)
}

// consoleWrite is serial8250_console_write: the kernel's own messages.
func (e *eager) consoleWrite(s string) {
	ier := e.in(regIER)
	e.out(regIER, 0)
	for _, b := range []byte(s) {
		e.in(regLSR)
		e.out(regData, b)
	}
	e.in(regLSR)
	e.out(regIER, ier)
}

// handle is serial8250_interrupt with serial8250_handle_irq.
func (e *eager) handle() (received []byte) {
	for e.in(regIIR)&iirNone == 0 {
		for lsr := e.in(regLSR); lsr&lsrReady != 0; lsr = e.in(regLSR) {
			received = append(received, e.in(regData))
		}
		e.in(regMSR)
	}
	return received
}

// A boot with input waiting from the start: Linux sees a 16550A without bugs,
// and reads every byte.
func TestLinuxLosesNoInput(t *testing.T) {
	g, line, out := newGuest()
	want := paste()[:4096]
	e := &eager{guest: g, input: want}
	e.out(regMCR, mcrDTR|mcrRTS) // early_serial_init
	e.consoleWrite("early\r\n")
	e.autoconfig(t) // as a legacy port
	e.consoleWrite("console\r\n")
	e.autoconfig(t) // as a Plug and Play device
	e.consoleWrite("init\r\n")
	if len(e.input) != len(want) {
		t.Errorf("%d bytes were taken before the port was opened", len(want)-len(e.input))
	}
	e.startup(t)
	var got []byte
	for line.high() {
		got = append(got, e.handle()...)
		e.consoleWrite("x")
	}
	if !slices.Equal(got, want) {
		t.Errorf("Linux read %d bytes of %d, or not the same", len(got), len(want))
	}
	if n := out.Len(); n < len("early\r\nconsole\r\ninit\r\nx") {
		t.Errorf("only %d bytes were sent", n)
	}
}

// throttle: a guest whose reader is slow, with hardware flow control on.
func TestLinuxThrottles(t *testing.T) {
	g, line, _ := newGuest()
	want := paste()[:1000]
	e := &eager{guest: g, input: want}
	e.startup(t)
	var got []byte
	for range 100 {
		e.in(regLSR)
		got = append(got, e.in(regData))
	}
	e.out(regMCR, mcrDTR|mcrOut2) // uart_throttle
	got = append(got, e.handle()...)
	if most := 100 + fifoSize; len(got) > most || line.high() {
		t.Errorf("%d bytes came in spite of RTS; want at most %d", len(got), most)
	}
	e.out(regMCR, mcrDTR|mcrRTS|mcrOut2) // uart_unthrottle
	got = append(got, e.handle()...)
	if !slices.Equal(got, want) {
		t.Errorf("Linux read %d bytes of %d, or not the same", len(got), len(want))
	}
}
