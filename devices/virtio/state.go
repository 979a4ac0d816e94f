package virtio

import (
	"encoding/json"
	"errors"
	"fmt"

	"vmm/devices"
	"vmm/devices/pci"
)

// TransportState is what a driver has made of a device, and how far the device has
// come: all of it but what is in guest memory. Fields of the transport that the
// device does not have are missing.
type TransportState struct {
	Type          Type         `json:"type"`
	Offered       Features     `json:"offered"` // for the check that it is the same device
	Accepted      Features     `json:"accepted"`
	Status        uint32       `json:"status"`
	Generation    uint32       `json:"generation"`
	Active        bool         `json:"active"`
	FeatureSelect uint32       `json:"feature_select"`
	AcceptSelect  uint32       `json:"accept_select"`
	QueueSelect   uint32       `json:"queue_select"`
	Queues        []SavedQueue `json:"queues"`
	// Interrupts is the interrupt status of the MMIO transport.
	Interrupts uint32 `json:"interrupts,omitempty"`
	// PCI is the state of the PCI transport.
	PCI *PCIState `json:"pci,omitempty"`
	// Device is the state of a [devices.Stateful].
	Device json.RawMessage `json:"device,omitempty"`
}

// SavedQueue is a queue as the driver has set it up.
type SavedQueue struct {
	Size    uint16 `json:"size"`
	Enabled bool   `json:"enabled"`
	Desc    uint64 `json:"descriptors"` // guest-physical addresses
	Avail   uint64 `json:"available"`
	Used    uint64 `json:"used"`
	// Cursor is that of a queue which the device uses.
	Cursor *Cursor `json:"cursor,omitempty"`
}

// PCIState is the state of a device on the PCI transport.
type PCIState struct {
	Function     pci.FunctionState `json:"function"`
	ConfigVector uint16            `json:"config_vector"`
	QueueVectors []uint16          `json:"queue_vectors"`
	// Window is where the capability for access through the configuration space
	// leads: BAR, offset and length. virtio §4.1.4.9.
	Window []byte `json:"window"`
}

var errNotPaused = errors.New("the device is at work")

// state is the state of a paused device.
func (t *transport) state() (TransportState, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.paused || t.resetting != nil {
		return TransportState{}, errNotPaused
	}
	s := TransportState{
		Type: t.info.Type, Offered: t.offers, Accepted: t.accepted,
		Status: t.status.Load(), Generation: t.generation.Load(), Active: t.active,
		FeatureSelect: t.featureSelect, AcceptSelect: t.acceptSelect, QueueSelect: t.queueSelect,
	}
	for i, q := range t.queues {
		saved := SavedQueue{Size: q.size, Enabled: q.enabled, Desc: q.desc, Avail: q.avail, Used: q.used}
		if t.active && t.live[i] != nil {
			c := t.live[i].cursor()
			saved.Cursor = &c
		}
		s.Queues = append(s.Queues, saved)
	}
	if d, ok := t.device.(devices.Stateful); ok {
		var err error
		if s.Device, err = json.Marshal(d.State()); err != nil {
			return s, err
		}
	}
	return s, nil
}

// setState makes a new, paused device what another was. Resume has it go on, and then
// interrupts the driver once for each queue.
func (t *transport) setState(s TransportState) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.paused || t.active:
		return errNotPaused
	case s.Type != t.info.Type:
		return fmt.Errorf("type: the device is a %v, not a %v", t.info.Type, s.Type)
	case s.Offered != t.offers:
		return fmt.Errorf("offered: the device has features %#x, not %#x", uint64(t.offers), uint64(s.Offered))
	case s.Accepted&^t.offers != 0 && s.Status&statusFeaturesOK != 0:
		return fmt.Errorf("accepted: features %#x, of which the device lacks some", uint64(s.Accepted))
	case len(s.Queues) != len(t.queues):
		return fmt.Errorf("queues: the device has %d, not %d", len(t.queues), len(s.Queues))
	case s.Active != (s.Status&statusDriverOK != 0) && s.Status&statusNeedsReset == 0:
		return fmt.Errorf("active: %v, with a status of %#x", s.Active, s.Status)
	}
	if d, ok := t.device.(devices.Stateful); ok {
		if err := d.SetState(s.Device); err != nil {
			return err
		}
	}
	t.accepted, t.featureSelect, t.acceptSelect, t.queueSelect = s.Accepted, s.FeatureSelect, s.AcceptSelect, s.QueueSelect
	t.status.Store(s.Status & (statusDriverSets | statusNeedsReset))
	t.generation.Store(s.Generation)
	for i, q := range s.Queues {
		t.queues[i] = queueSetup{q.Size, q.Enabled, q.Desc, q.Avail, q.Used}
	}
	if !s.Active {
		return nil
	}
	if err := t.makeQueues(); err != nil {
		return err
	}
	for i, q := range t.live {
		saved := s.Queues[i].Cursor
		if (q == nil) != (saved == nil) {
			return fmt.Errorf("queue %d: cursor: it must be there for a queue that is in use, and for no other", i)
		}
		if q == nil {
			continue
		}
		if err := q.setCursor(*saved); err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
	}
	t.restored = true
	return nil
}

// Save is the state of the device, which is paused.
func (m *MMIO) Save() (TransportState, error) {
	s, err := m.state()
	s.Interrupts = m.pending.Load()
	return s, err
}

// Restore makes a new device, which is paused, what another was.
func (m *MMIO) Restore(s TransportState) error {
	if s.PCI != nil {
		return errors.New("pci: the device is on the MMIO transport")
	}
	m.pending.Store(s.Interrupts & (interruptQueue | interruptConfig))
	return m.setState(s)
}

// Save is the state of the device, which is paused.
func (p *PCI) Save() (TransportState, error) {
	s, err := p.state()
	saved := PCIState{Function: p.function.State(), ConfigVector: uint16(p.changed.vector.Load()), Window: p.access.window()}
	saved.Function.MSIX = p.msix.State()
	for i := range p.queued {
		saved.QueueVectors = append(saved.QueueVectors, uint16(p.queued[i].vector.Load()))
	}
	s.PCI = &saved
	return s, err
}

// Restore makes a new device, which is paused, what another was.
func (p *PCI) Restore(s TransportState) error {
	switch {
	case s.PCI == nil:
		return errors.New("pci: it is missing for a device on the PCI transport")
	case len(s.PCI.QueueVectors) != len(p.queued):
		return fmt.Errorf("pci: queue_vectors: there must be %d", len(p.queued))
	}
	p.changed.vector.Store(uint32(s.PCI.ConfigVector))
	for i, v := range s.PCI.QueueVectors {
		p.queued[i].vector.Store(uint32(v))
	}
	if err := p.access.setWindow(s.PCI.Window); err != nil {
		return err
	}
	if err := p.function.SetState(s.PCI.Function); err != nil {
		return err
	}
	if err := p.msix.SetState(s.PCI.Function.MSIX); err != nil {
		return err
	}
	return p.setState(s)
}
