package machine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vmm/devices"
)

// stopFor is how long the devices of a machine that has ended may take to stop,
// all of them together. A worker that waits for a disk or a server which does not
// answer is not waited for any longer.
const stopFor = time.Second

// part is a device that Close stops.
type part struct {
	name string
	stop func() error
}

// unfinished are the parts whose stop has not returned.
type unfinished struct {
	mu    sync.Mutex
	names []string
}

func (u *unfinished) add(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.names = append(u.names, name)
}

func (u *unfinished) remove(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.names, name); i >= 0 {
		u.names = slices.Delete(u.names, i, i+1)
	}
}

func (u *unfinished) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.names)
}

// StuckError says that parts of a machine have not stopped in time. What they may
// still touch is left as it is, for the end of the process: the guest's memory
// stays mapped.
type StuckError struct {
	Parts []string // by name, such as "virtio-blk0"
	After time.Duration
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("%s did not stop within %v; what it had yet to write may be lost", strings.Join(e.Parts, " and "), e.After)
}

// Close lets go of everything the machine holds. Run must have returned or
// never been called. Devices stop first, all at once; if one has not after
// stopFor, Close returns a *StuckError and leaves what that one may still use.
func (m *Machine) Close() error {
	parts := m.parts
	m.parts = nil
	done := make(chan error, len(parts))
	for _, p := range parts {
		m.unfinished.add(p.name)
		go func() {
			err := p.stop()
			m.unfinished.remove(p.name)
			done <- err
		}()
	}
	var errs []error
	late := time.NewTimer(stopFor)
	defer late.Stop()
	for range parts {
		select {
		case err := <-done:
			errs = append(errs, err)
		case <-late.C:
			if names := m.unfinished.list(); len(names) > 0 {
				m.closers = nil
				return errors.Join(append(errs, &StuckError{names, stopFor})...)
			}
			errs = append(errs, <-done) // at the last moment
		}
	}
	for _, c := range slices.Backward(m.closers) {
		errs = append(errs, c())
	}
	m.closers = nil
	return errors.Join(errs...)
}

// Settle waits until all that New has begun is done: a kernel that was unpacked may
// be on its way to the cache. From then on the machine opens no file by its name,
// but in the folders that it shares.
func (m *Machine) Settle() {
	if m.settle != nil {
		m.settle()
	}
}

// Ended is closed when the machine has begun to end, by the guest's will or
// another's. Run returns when its vCPUs have left the guest.
func (m *Machine) Ended() <-chan struct{} { return m.stopped }

// Outcome is how the machine ended; it is only known once Ended is closed. The
// error is that of Run.
func (m *Machine) Outcome() (Outcome, error) { return m.outcome, m.err }

// Unfinished says what has yet to end in a machine that is ending: vCPUs, with
// the device that keeps one, and devices. It may be called at any time.
func (m *Machine) Unfinished() []string {
	var all []string
	for _, c := range m.cpus {
		if c.running.Load() {
			all = append(all, m.whereabouts(c))
		}
	}
	return append(all, m.unfinished.list()...)
}

// whereabouts says what a vCPU that does not end is doing.
func (m *Machine) whereabouts(c *cpu) string {
	name := fmt.Sprintf("vCPU %d", c.vcpu.ID)
	addr, port, ok := c.asking.get()
	if !ok {
		return name
	}
	bus, kind := &m.mmio, "memory"
	if port {
		bus, kind = &m.ports, "port"
	}
	_, device, _ := devices.Find(bus, addr)
	return fmt.Sprintf("%s, in an access to %s (%s %#x)", name, cmp.Or(device, "a device"), kind, addr)
}
