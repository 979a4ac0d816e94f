package trace

import "fmt"

// Interpreter makes sense of records. It is used by one goroutine.
type Interpreter struct {
	decoder  decoder
	requests map[request]int64 // when a device took them
	doorbell map[request]int64 // when a queue's rang last, with head 0
}

// request is a request under way.
type request struct {
	device string
	queue  int
	head   uint16
}

// maxRequests bounds the memory of an Interpreter: it is more than all queues of
// a machine hold.
const maxRequests = 1 << 16

// NewInterpreter returns an Interpreter. symbols may be nil.
func NewInterpreter(symbols Symbols) *Interpreter {
	return &Interpreter{
		decoder:  decoder{symbols: symbols},
		requests: map[request]int64{}, doorbell: map[request]int64{},
	}
}

// Event makes sense of a record.
func (i *Interpreter) Event(r *Record) Event {
	e := Event{Time: r.Time, Kind: r.Kind.String(), Device: r.Device}
	switch r.Kind {
	case Exit:
		i.exit(&e, r)
	case Interrupt:
		interrupt(&e, r)
	case Doorbell, Pop, Push:
		i.queue(&e, r)
	case Lost:
		e.Lost = r.Lost
	}
	return e
}

func (i *Interpreter) exit(e *Event, r *Record) {
	vcpu := r.VCPU
	e.VCPU, e.Reason = &vcpu, r.Reason
	e.Guest, e.VMM = r.Time-r.Entered, r.Done-r.Time
	if r.Registers.Valid {
		found := i.decoder.decode(r)
		e.RIP, e.Insn, e.Symbol = hex(found.rip), found.text, found.symbol
	}
	if r.Access == NoAccess {
		return
	}
	if r.Access == Port {
		e.Port = hex(r.Addr)
	} else {
		e.Addr = hex(r.Addr)
	}
	e.Op = "read"
	if r.Write {
		e.Op = "write"
	}
	e.Size, e.Register, e.Value = int(r.Size), r.Register, hex(r.Value)
	if r.Count > 1 {
		e.Count = r.Count
	}
	if r.Meaner != nil {
		e.Meaning = r.Meaner.Meaning(r.Register, r.Write, r.Value)
	}
}

func interrupt(e *Event, r *Record) {
	if r.Message {
		e.MSIAddr, e.MSIData = hex(r.MSIAddr), hex(uint64(r.MSIData))
		e.Meaning = messageMeaning(r.MSIAddr, r.MSIData)
		return
	}
	gsi := r.GSI
	e.GSI = &gsi
	e.Level = [...]string{Lower: "lower", Raise: "raise", Pulse: "pulse"}[r.Level]
}

// messageMeaning says where a message goes. Intel SDM vol. 3 §11.11.
func messageMeaning(addr uint64, data uint32) string {
	if addr>>20 != 0xfee {
		return "not an interrupt"
	}
	modes := [...]string{"fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "reserved", "ExtINT"}
	// Bits 11 to 5 of the address are the upper bits of an APIC ID of 15 bits,
	// where the hypervisor offers that; elsewhere they are zero.
	apic := addr>>12&0xff | addr>>5&0x7f<<8
	text := fmt.Sprintf("vector %#x to APIC %d", data&0xff, apic)
	if addr>>2&1 != 0 {
		text = fmt.Sprintf("vector %#x to logical APIC %#x", data&0xff, apic)
	}
	if mode := data >> 8 & 7; mode != 0 {
		text += ", " + modes[mode]
	}
	return text
}

func (i *Interpreter) queue(e *Event, r *Record) {
	queue, head := r.Queue, r.Head
	e.Queue = &queue
	ring := request{device: r.Device, queue: queue}
	if r.Kind == Doorbell {
		i.doorbell[ring] = r.Time
		return
	}
	e.Head = &head
	chain := request{r.Device, queue, head}
	if r.Kind == Pop {
		e.Readable, e.Writable = r.Readable, r.Writable
		if t, ok := i.doorbell[ring]; ok {
			e.Waited = r.Time - t
		}
		if len(i.requests) >= maxRequests {
			clear(i.requests)
		}
		i.requests[chain] = r.Time
		return
	}
	e.Written = r.Written
	if t, ok := i.requests[chain]; ok {
		e.Took = r.Time - t
		delete(i.requests, chain)
	}
}
