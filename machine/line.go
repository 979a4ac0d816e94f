package machine

import (
	"log/slog"
	"sync"

	"vmm/devices"
	"vmm/kvm"
	"vmm/trace"
)

// irqLine is a devices.Line that ends at an input of the VM's interrupt
// controllers. It uses KVM_IRQ_LINE and not an irqfd: an irqfd is a pulse, and
// these lines have a level that falls when the guest has served the device.
type irqLine struct {
	vm  *kvm.VM
	gsi uint32
	log *slog.Logger

	device  string
	tracing *tracing

	mu    sync.Mutex // keeps level and what KVM was told the same
	level bool
}

var _ devices.Line = (*irqLine)(nil)

func (l *irqLine) Set(level bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if level == l.level {
		return
	}
	l.level = level
	if t := l.tracing.now.Load(); t != nil {
		r := trace.Record{Kind: trace.Interrupt, Device: l.device, GSI: l.gsi}
		if level {
			r.Level = trace.Raise
		}
		t.put(r)
	}
	if err := l.vm.SetIRQLine(l.gsi, level); err != nil {
		l.log.Error("interrupt line", "gsi", l.gsi, "err", err)
	}
}

// pulse is an edge-triggered interrupt at an input of the interrupt controllers.
type pulse struct {
	*devices.Event
	device  string
	gsi     uint32
	tracing *tracing
}

// Signal implements devices.Interrupt.
func (p *pulse) Signal() {
	if t := p.tracing.now.Load(); t != nil {
		t.put(trace.Record{Kind: trace.Interrupt, Device: p.device, GSI: p.gsi, Level: trace.Pulse})
	}
	p.Event.Signal()
}
