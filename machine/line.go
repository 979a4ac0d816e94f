package machine

import (
	"log/slog"
	"sync"

	"vmm/devices"
	"vmm/kvm"
)

// irqLine is a devices.Line that ends at an input of the VM's interrupt
// controllers. It uses KVM_IRQ_LINE and not an irqfd: an irqfd is a pulse, and
// these lines have a level that falls when the guest has served the device.
type irqLine struct {
	vm  *kvm.VM
	gsi uint32
	log *slog.Logger

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
	if err := l.vm.SetIRQLine(l.gsi, level); err != nil {
		l.log.Error("interrupt line", "gsi", l.gsi, "err", err)
	}
}
