package pci

import (
	"errors"
	"fmt"
)

// FunctionState is what a guest has made of a function: what it has written to the
// configuration space, and to the registers for its interrupts.
type FunctionState struct {
	Command uint8 `json:"command"`
	// BAR is what BAR 0 holds, with its low bits.
	BAR uint64 `json:"bar"`
	// MSIX is missing in a function without interrupts.
	MSIX *MSIXState `json:"msix,omitempty"`
}

// MSIXState is the state of the MSI-X capability. PCI §6.8.2.
type MSIXState struct {
	Control uint16        `json:"control"`
	Vectors []VectorState `json:"vectors"`
}

// VectorState is an entry of the MSI-X table.
type VectorState struct {
	Entry   []byte `json:"entry"`
	Pending bool   `json:"pending,omitempty"`
}

// State is the state of the function but for its interrupts.
func (f *Function) State() FunctionState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FunctionState{Command: f.space[regCommand], BAR: le.Uint64(f.space[regBAR0:])}
}

// SetState has the function answer where another did.
func (f *Function) SetState(s FunctionState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.size == 0 {
		return errors.New("PCI: bar: the function has none")
	}
	if fixed := f.size - 1; s.BAR&fixed != le.Uint64(f.space[regBAR0:])&fixed {
		return fmt.Errorf("PCI: bar: %#x does not have the size of the function's registers, %#x", s.BAR, f.size)
	}
	f.space[regCommand] = s.Command & (commandMemory | commandMaster)
	le.PutUint64(f.space[regBAR0:], s.BAR)
	f.decode()
	return nil
}

// State is the state of the function's interrupts.
func (m *MSIX) State() *MSIXState {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &MSIXState{Control: m.control}
	for i := range m.vectors {
		v := &m.vectors[i]
		s.Vectors = append(s.Vectors, VectorState{append([]byte(nil), v.entry[:]...), v.pending.Load()})
	}
	return s
}

// SetState has the interrupts lead to where those of another function led.
func (m *MSIX) SetState(s *MSIXState) error {
	if s == nil || len(s.Vectors) != len(m.vectors) {
		return fmt.Errorf("PCI: msix: there must be %d vectors", len(m.vectors))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.control = s.Control & (msixEnable | msixMask)
	for i := range m.vectors {
		v, saved := &m.vectors[i], s.Vectors[i]
		if len(saved.Entry) != entrySize {
			return fmt.Errorf("PCI: msix: vector %d: an entry of %d bytes instead of %d", i, len(saved.Entry), entrySize)
		}
		copy(v.entry[:], saved.Entry)
		v.pending.Store(saved.Pending)
		m.update(v)
	}
	return nil
}

// Address is what the configuration address register holds.
func (r *Root) Address() uint32 { return r.address.Load() }

// SetAddress sets it.
func (r *Root) SetAddress(a uint32) { r.address.Store(a) }
