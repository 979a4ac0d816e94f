package machine

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"vmm/boot"
	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/kvm"
	"vmm/snapshot"
)

// SavedState is what has become of a machine: of its processors, KVM's chips and the devices.
type SavedState struct {
	Entry      boot.Entry                       `json:"entry"`
	Processors []ProcessorState                 `json:"processors"`
	Chips      ChipsState                       `json:"chips"`
	Devices    map[string]json.RawMessage       `json:"devices"`
	PCIAddress uint32                           `json:"pci_address,omitempty"`
	Virtio     map[string]virtio.TransportState `json:"virtio"`
}

// savePatience is how long saving waits for devices to finish what they have begun.
const savePatience = time.Minute

// Save writes the machine to the files of a [snapshot.Place]. The guest stands still
// while its memory is written, and goes on then, unless the machine is paused. pagemap
// is /proc/self/pagemap.
func (m *Machine) Save(files []*os.File, pagemap io.ReaderAt) error {
	start := time.Now()
	if err := m.holdToSave(); err != nil {
		return err
	}
	defer m.letGo(toSave)
	saved, err := m.state()
	if err != nil {
		return err
	}
	err = m.probes.Without(func() error { return snapshot.Write(files, m.memory, pagemap, saved) })
	m.log.Debug("memory written", "held", time.Since(start))
	return err
}

// holdToSave stops processors and devices, or says who does not stop.
func (m *Machine) holdToSave() error {
	m.hold(toSave)
	m.pausing.Lock()
	err := m.quiesce(savePatience)
	m.pausing.Unlock()
	if err != nil {
		m.letGo(toSave)
		return fmt.Errorf("not saved: %w", err)
	}
	return nil
}

// state is all of the machine but its memory. The processors and devices are held.
func (m *Machine) state() (*Saved, error) {
	s := &Saved{Time: time.Now().UTC(), State: SavedState{Entry: m.entry, Virtio: map[string]virtio.TransportState{}}}
	for i := range m.cpus {
		if err := m.onCPU(i, func(c *cpu) error {
			p, err := c.save(m.msrs, m.xstate)
			s.State.Processors = append(s.State.Processors, p)
			return err
		}); err != nil {
			return nil, err
		}
	}
	var err error
	if s.State.Devices, err = saveDevices(m.stateful); err != nil {
		return nil, err
	}
	for _, t := range m.transports {
		if s.State.Virtio[t.Name()], err = t.Save(); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name(), err)
		}
	}
	if m.pci != nil {
		s.State.PCIAddress = m.pci.Address()
	}
	// After the devices, whose interrupts arrive there.
	if s.State.Chips, err = saveChips(m.vm, m.timer); err != nil {
		return nil, err
	}
	for _, d := range m.disks {
		if err := d.Flush(); err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
	}
	s.Spec, err = m.config.spec(m.entry.Cmdline, m.linux, m.images)
	return s, err
}

func saveDevices(all map[string]devices.Stateful) (map[string]json.RawMessage, error) {
	saved := map[string]json.RawMessage{}
	for name, d := range all {
		var err error
		if saved[name], err = json.Marshal(d.State()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return saved, nil
}

// ChipsState is the state of what KVM has of a machine besides its processors.
type ChipsState struct {
	PICs   [2][]byte `json:"pics"` // master and slave, as KVM lays them out
	IOAPIC []byte    `json:"ioapic"`
	// PIT is missing as long as the guest has not used it.
	PIT *kvm.PITState `json:"pit,omitempty"`
	// Clock is kvmclock, with the host's time: Realtime always holds.
	Clock kvm.ClockData `json:"clock"`
}

func saveChips(vm *kvm.VM, timer *pit) (c ChipsState, err error) {
	for i, chip := range []kvm.IRQChip{kvm.PICMaster, kvm.PICSlave} {
		s, err := vm.IRQChip(chip)
		if err != nil {
			return c, err
		}
		c.PICs[i] = s.Data[:]
	}
	ioapic, err := vm.IRQChip(kvm.IOAPIC)
	if err != nil {
		return c, err
	}
	c.IOAPIC = ioapic.Data[:]
	if timer.made.Load() {
		s, err := vm.PIT()
		if err != nil {
			return c, err
		}
		c.PIT = &s
	}
	if c.Clock, err = vm.Clock(); err != nil {
		return c, err
	}
	if c.Clock.Flags&kvm.ClockRealtime == 0 {
		c.Clock.Realtime = uint64(time.Now().UnixNano())
	}
	return c, nil
}
