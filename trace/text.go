package trace

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// appendText writes an event for a person, in one line.
func appendText(b *bytes.Buffer, e *Event) {
	fmt.Fprintf(b, "%12.6f ", float64(e.Time)/1e9)
	switch {
	case e.VCPU != nil:
		exitText(b, e)
	case e.Lost > 0:
		fmt.Fprintf(b, "      lost       %d records: the trace could not keep up", e.Lost)
	case e.Queue != nil:
		fmt.Fprintf(b, "      %-10s %s queue %d", e.Kind, e.Device, *e.Queue)
		queueText(b, e)
	default:
		fmt.Fprintf(b, "      %-10s %s", e.Kind, e.Device)
		if e.GSI != nil {
			fmt.Fprintf(b, " GSI %d %s", *e.GSI, e.Level)
		} else {
			fmt.Fprintf(b, " message %v to %v (%s)", e.MSIData, e.MSIAddr, e.Meaning)
		}
	}
	b.WriteByte('\n')
}

func exitText(b *bytes.Buffer, e *Event) {
	fmt.Fprintf(b, "cpu%-2d %-10s", *e.VCPU, e.Reason)
	if e.Op != "" {
		b.WriteByte(' ')
		b.WriteString(accessText(e))
	}
	if e.RIP != nil {
		insn := e.Insn
		if insn == "" {
			insn = "?"
		}
		at := e.RIP.String()
		if e.Symbol != "" {
			at = e.Symbol
		}
		fmt.Fprintf(b, "  [%s: %s]", at, insn)
	}
	fmt.Fprintf(b, "  guest %v, vmm %v", span(e.Guest), span(e.VMM))
}

// accessText is an access: "COM1 LCR = 0x83 (8N1 DLAB)".
func accessText(e *Event) string {
	var s strings.Builder
	device := e.Device
	if device == "" {
		device = "no device"
	}
	s.WriteString(device)
	if e.Register != "" {
		s.WriteString(" " + e.Register)
	} else if e.Port != nil {
		fmt.Fprintf(&s, " port %v", *e.Port)
	} else {
		fmt.Fprintf(&s, " address %v", *e.Addr)
	}
	if e.Op == "write" {
		s.WriteString(" <- ")
	} else {
		s.WriteString(" -> ")
	}
	fmt.Fprintf(&s, "%v", *e.Value)
	if e.Count > 1 {
		fmt.Fprintf(&s, " and %d more", e.Count-1)
	}
	if e.Meaning != "" {
		fmt.Fprintf(&s, " (%s)", e.Meaning)
	}
	return s.String()
}

func queueText(b *bytes.Buffer, e *Event) {
	if e.Head == nil {
		return
	}
	fmt.Fprintf(b, " chain %d", *e.Head)
	switch e.Kind {
	case Pop.String():
		fmt.Fprintf(b, ": %d bytes from the driver, room for %d", e.Readable, e.Writable)
		if e.Waited > 0 {
			fmt.Fprintf(b, "; %v after the doorbell", span(e.Waited))
		}
	case Push.String():
		fmt.Fprintf(b, ": %d bytes to the driver", e.Written)
		if e.Took > 0 {
			fmt.Fprintf(b, "; took %v", span(e.Took))
		}
	}
}

// span is a duration with three digits or so.
func span(ns int64) time.Duration {
	d := time.Duration(ns)
	for unit := time.Nanosecond; unit < time.Second; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(time.Millisecond)
}
