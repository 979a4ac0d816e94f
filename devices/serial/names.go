package serial

import (
	"fmt"
	"strconv"

	"vmm/devices"
)

var (
	_ devices.Namer  = (*Port)(nil)
	_ devices.Shower = (*Port)(nil)
)

// Show implements devices.Shower.
func (p *Port) Show() []devices.Value {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	value := func(name string, offset uint64, v uint8) devices.Value {
		return devices.Value{Register: name, Offset: offset, Bytes: 1, Value: uint64(v)}
	}
	id := s.pending()
	if s.fifoOn {
		id |= iirFIFO
	}
	all := []devices.Value{
		value("IER", regIER, s.ier), value("IIR", regIIR, id), value("LCR", regLCR, s.lcr), value("MCR", regMCR, s.mcr),
		value("LSR", regLSR, s.lineStatus()), value("MSR", regMSR, s.modem()|s.modemDelta), value("SCR", regSCR, s.scr),
		value("DLL", regData, s.divisor[0]), value("DLM", regIER, s.divisor[1]),
	}
	if s.count > 0 {
		all = append(all, value("RBR", regData, s.received[0]))
	}
	return all
}

// Register implements devices.Namer, with the names of PC16550D, "Registers".
func (p *Port) Register(offset uint64, write bool) string {
	switch offset {
	case regData, regIER:
		p.mu.Lock()
		latch := p.state.lcr&lcrDLAB != 0
		p.mu.Unlock()
		switch {
		case offset == regData && latch:
			return "DLL"
		case latch:
			return "DLM"
		case offset == regIER:
			return "IER"
		case write:
			return "THR"
		}
		return "RBR"
	case regIIR:
		if write {
			return "FCR"
		}
		return "IIR"
	case regLCR:
		return "LCR"
	case regMCR:
		return "MCR"
	case regLSR:
		return "LSR"
	case regMSR:
		return "MSR"
	case regSCR:
		return "SCR"
	}
	return ""
}

// Meaning implements devices.Namer.
func (p *Port) Meaning(register string, _ bool, v uint64) string {
	switch register {
	case "THR", "RBR":
		return strconv.QuoteRune(rune(v & 0xff))
	case "IER":
		return devices.Bits(v, "received", "transmit", "line-status", "modem")
	case "IIR":
		return interruptName(v)
	case "FCR":
		text := devices.Bits(v, "enable", "clear-receive", "clear-transmit", "DMA")
		if v&fcrEnable != 0 {
			text += fmt.Sprintf(" trigger=%d", triggers[v>>6&3])
		}
		return text
	case "LCR":
		return frame(v)
	case "MCR":
		return devices.Bits(v, "DTR", "RTS", "OUT1", "OUT2", "loop")
	case "LSR":
		return devices.Bits(v, "ready", "overrun", "parity-error", "framing-error", "break", "THRE", "TEMT")
	case "MSR":
		return devices.Bits(v, "dCTS", "dDSR", "RI-dropped", "dDCD", "CTS", "DSR", "RI", "DCD")
	}
	return ""
}

// interruptName is what an interrupt identification says. PC16550D, table IV.
func interruptName(v uint64) string {
	switch v & 0xf {
	case iirNone:
		return "none"
	case iirModem:
		return "modem status"
	case iirTransmit:
		return "transmitter empty"
	case iirReceived:
		return "received"
	case iirLineStatus:
		return "line status"
	case iirTimeout:
		return "received, below the trigger"
	}
	return ""
}

// frame is what a line control says: "8N1", say. PC16550D, "Line Control
// Register".
func frame(v uint64) string {
	parity := "N"
	if v>>3&1 != 0 {
		parity = [...]string{"O", "E", "M", "S"}[v>>4&3]
	}
	text := fmt.Sprintf("%d%s%d", 5+v&3, parity, 1+v>>2&1)
	if v&lcrDLAB != 0 {
		text += " DLAB"
	}
	return text
}
