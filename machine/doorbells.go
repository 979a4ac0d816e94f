package machine

import (
	"errors"
	"slices"
	"sync"

	"vmm/devices/virtio"
	"vmm/kvm"
)

// ioEvents is what doorbells ask of KVM.
type ioEvents interface {
	AddIOEventFD(eventfd int, e kvm.IOEvent) error
	RemoveIOEventFD(eventfd int, e kvm.IOEvent) error
}

// doorbells keeps KVM answering the doorbells of devices wherever the guest puts
// them. Where KVM does not, for it has another device's at that address, the guest's
// writes come to vmm as exits, which takes longer and is otherwise the same. So it
// is all doorbells of a device or none, and what KVM has is known after any error.
type doorbells struct {
	kvm ioEvents // nil: all doorbells come as exits

	mu  sync.Mutex
	all []*bells
}

// bells are the doorbells of a device.
type bells struct {
	of   *doorbells
	list []virtio.Doorbell
	base uint64 // of the device's registers; 0 while they are nowhere
	// held are those that KVM answers: of list at base, all or none, and of other
	// places those that KVM did not give back.
	held []held
}

// held is a doorbell that KVM answers.
type held struct {
	fd    int
	base  uint64
	event kvm.IOEvent
}

// add adds the doorbells of a device, whose registers are nowhere yet.
func (d *doorbells) add(list []virtio.Doorbell) *bells {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := &bells{of: d, list: list}
	d.all = append(d.all, b)
	return b
}

// move has KVM answer at another base, 0 for none. When it fails, the doorbells are
// tried again at the next move of any device: what was in the way may be gone.
func (b *bells) move(base uint64) error {
	d := b.of
	d.mu.Lock()
	defer d.mu.Unlock()
	b.base = base
	if d.kvm == nil {
		return nil
	}
	errs := []error{b.release(base)}
	for _, other := range d.all {
		err := other.hold()
		if other == b {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// release has KVM give back the doorbells that are not at base. It goes on after an
// error: each that is left would take writes which are another device's by now.
func (b *bells) release(base uint64) error {
	var errs []error
	b.held = slices.DeleteFunc(b.held, func(h held) bool {
		if h.base == base {
			return false
		}
		err := b.of.kvm.RemoveIOEventFD(h.fd, h.event)
		errs = append(errs, err)
		return err == nil
	})
	return errors.Join(errs...)
}

// hold has KVM answer all doorbells at the base, as far as it does not.
func (b *bells) hold() error {
	if b.base == 0 {
		return nil
	}
	for _, bell := range b.list {
		h := held{bell.Event.FD(), b.base, kvm.IOEvent{Addr: b.base + bell.Offset, Size: bell.Size, Match: bell.Match}}
		if slices.Contains(b.held, h) {
			continue
		}
		if err := b.of.kvm.AddIOEventFD(h.fd, h.event); err != nil {
			return errors.Join(err, b.release(0))
		}
		b.held = append(b.held, h)
	}
	return nil
}
