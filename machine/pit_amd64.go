package machine

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"vmm/devices"
	"vmm/kvm"
)

// pit stands at the ports of the 8254 timer and creates KVM's when a guest
// first reaches for it; from then on KVM answers these ports itself. A Linux
// that has ACPI and a clock of KVM's never does, and so is spared the timer:
// its creation starts a kernel thread, and to take it apart KVM waits four
// times for readers of its tables, longer than all the rest of a VM's end.
type pit struct {
	chip    timerChip
	connect func() error // its interrupt
	log     *slog.Logger
	once    sync.Once
	made    atomic.Bool // KVM answers the ports
}

// timerChip is the part of kvm.VM that pit needs.
type timerChip interface {
	CreatePIT() error
	PIT() (kvm.PITState, error)
	SetPIT(kvm.PITState) error
}

var _ devices.Device = (*pitPort)(nil)

// pitPort is one of the ranges of ports that the timer answers.
type pitPort struct {
	pit *pit
	// write changes the state of a new timer as its first access does.
	write func(s *kvm.PITState, offset uint64, value uint8)
}

// inKVM reports whether KVM answers the port by now.
func (p *pitPort) inKVM() bool { return p.pit.made.Load() }

// counters are the timer's own ports.
func (p *pit) counters() devices.Device { return &pitPort{p, writeCounter} }

// gate is the PC's port 0x61, with which software starts channel 2.
func (p *pit) gate() devices.Device { return &pitPort{p, writeGate} }

// Sizes of the ranges of ports, in bytes.
const (
	pitCountersSize = 4
	pitGateSize     = 1
)

// Read answers 0: no timer has counted yet, and no gate is open.
func (p *pitPort) Read(_ uint64, data []byte) {
	p.pit.create(nil)
	clear(data)
}

func (p *pitPort) Write(offset uint64, data []byte) {
	p.pit.create(func(s *kvm.PITState) { p.write(s, offset, data[0]) })
}

// create makes the timer, and changes its state by the access that called for
// it. Another vCPU that comes at the same moment waits; its own access is lost,
// as one of two that program a timer at once is anyway.
func (p *pit) create(change func(*kvm.PITState)) {
	p.once.Do(func() {
		err := p.connect()
		if err == nil {
			err = p.chip.CreatePIT()
		}
		p.made.Store(err == nil)
		if err == nil && change != nil {
			var s kvm.PITState
			if s, err = p.chip.PIT(); err == nil {
				change(&s)
				err = p.chip.SetPIT(s)
			}
		}
		if err != nil {
			p.log.Warn("the guest gets no timer (PIT)", "error", err)
		}
	})
}

// restore makes the timer with a state that another had.
func (p *pit) restore(s kvm.PITState) (err error) {
	p.once.Do(func() {
		if err = p.connect(); err == nil {
			err = p.chip.CreatePIT()
		}
		p.made.Store(err == nil)
		if err == nil {
			err = p.chip.SetPIT(s)
		}
	})
	return err
}

// writeCounter is a write to ports 0x40 to 0x43. Only a control word, the
// fourth, means anything to a timer that has not been set up. Intel 8254 data
// sheet, "Control Word Format".
func writeCounter(s *kvm.PITState, offset uint64, value uint8) {
	const control, readBack = 3, 3
	channel, access := value>>6, value>>4&3
	if offset != control || channel == readBack || access == 0 {
		return // a count, or a question about one
	}
	c := &s.Channels[channel]
	// One byte, the other, or both in turn: KVM numbers what is awaited as
	// the control word numbers the access.
	c.RWMode, c.ReadState, c.WriteState = access, access, access
	c.Mode = value >> 1 & 7
	if c.Mode > 5 {
		c.Mode -= 4 // modes 2 and 3 have two numbers
	}
	c.BCD = value & 1
}

// writeGate is a write to port 0x61: bit 0 is channel 2's gate.
func writeGate(s *kvm.PITState, _ uint64, value uint8) { s.Channels[2].Gate = value & 1 }
