package pci

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"vmm/devices"
)

// MSIX is the MSI-X capability of a function: a table in which the guest says,
// for each of the function's interrupts, what message to send. PCI §6.8.2.
type MSIX struct {
	vectors []vector
	log     *slog.Logger

	mu      sync.Mutex // guards what follows, and each vector's entry
	control uint16
	layout  [2]uint32 // of table and pending bits: offset in BAR 0
}

// vector is an interrupt of the function.
type vector struct {
	message devices.Message
	entry   [entrySize]byte
	routed  [12]byte    // address and data that the message has
	live    atomic.Bool // neither masked nor switched off
	pending atomic.Bool // signalled while it was not live
}

const (
	capMSIX  = 0x11
	msixSize = 12

	msixEnable = 1 << 15
	msixMask   = 1 << 14 // all vectors

	entrySize    = 16
	entryControl = 12 // of which bit 0 masks the vector
)

// NewMSIX adds the capability to a function, with as many vectors as there are
// messages. The table and the pending bits are to be found in BAR 0 at these
// offsets, multiples of 8.
func NewMSIX(f *Function, messages []devices.Message, table, pending uint32, log *slog.Logger) *MSIX {
	m := &MSIX{vectors: make([]vector, len(messages)), layout: [2]uint32{table, pending}, log: log}
	for i := range m.vectors {
		m.vectors[i].message = messages[i]
		m.vectors[i].entry[entryControl] = 1
	}
	f.AddCapability(capMSIX, msixSize, (*msixCapability)(m))
	return m
}

// TableSize is the size of the table, in bytes.
func (m *MSIX) TableSize() uint64 { return uint64(len(m.vectors) * entrySize) }

// PendingSize is the size of the pending bits, in bytes.
func (m *MSIX) PendingSize() uint64 { return uint64(len(m.vectors)+63) / 64 * 8 }

// Vectors is the number of vectors.
func (m *MSIX) Vectors() int { return len(m.vectors) }

// Signal sends the message of vector i: at once, or when the guest unmasks it.
// There may be no such vector.
func (m *MSIX) Signal(i int) {
	if i >= len(m.vectors) {
		return
	}
	v := &m.vectors[i]
	if v.live.Load() {
		v.message.Signal()
		return
	}
	v.pending.Store(true)
	// It may have become live between the look and the note.
	if v.live.Load() && v.pending.Swap(false) {
		v.message.Signal()
	}
}

// Reset takes back signals that are pending: the device forgets.
func (m *MSIX) Reset() {
	for i := range m.vectors {
		m.vectors[i].pending.Store(false)
	}
}

// update brings a vector in line with its entry and the control register.
func (m *MSIX) update(v *vector) {
	if m.control&msixEnable == 0 || m.control&msixMask != 0 || v.entry[entryControl]&1 != 0 {
		v.live.Store(false)
		return
	}
	if want := [12]byte(v.entry[:12]); want != v.routed {
		v.live.Store(false)
		if err := v.message.Route(le.Uint64(want[:]), le.Uint32(want[8:])); err != nil {
			m.log.Warn("an interrupt of a PCI device leads nowhere: KVM refuses the target that the guest gave it", "address", le.Uint64(want[:]), "data", le.Uint32(want[8:]), "error", err)
			return
		}
		v.routed = want
	}
	v.live.Store(true)
	if v.pending.Swap(false) {
		v.message.Signal()
	}
}

// msixCapability is the part in the configuration space.
type msixCapability MSIX

func (c *msixCapability) Read(offset uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var regs [msixSize]byte
	le.PutUint16(regs[2:], c.control|uint16(len(c.vectors)-1))
	le.PutUint32(regs[4:], c.layout[0])
	le.PutUint32(regs[8:], c.layout[1])
	copy(data, regs[offset:])
}

func (c *msixCapability) Write(offset uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The two bits that can be written are in the upper byte.
	i := 3 - int(offset)
	if i < 0 || i >= len(data) {
		return
	}
	c.control = uint16(data[i]) << 8 & (msixEnable | msixMask)
	for i := range c.vectors {
		(*MSIX)(c).update(&c.vectors[i])
	}
}

// Table is the table of messages.
func (m *MSIX) Table() devices.Device { return (*msixTable)(m) }

type msixTable MSIX

// Read answers with the bytes that lie there, at any width.
func (t *msixTable) Read(offset uint64, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range data {
		if at := offset + uint64(i); at/entrySize < uint64(len(t.vectors)) {
			data[i] = t.vectors[at/entrySize].entry[at%entrySize]
		}
	}
}

// Write takes 4 or 8 bytes, aligned: a message is to change as a whole. Of others the
// result is not defined. PCI §6.8.2.
func (t *msixTable) Write(offset uint64, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, n := offset/entrySize, len(data)
	if i >= uint64(len(t.vectors)) || n != 4 && n != 8 || offset%uint64(n) != 0 {
		t.log.Warn("the guest writes to an MSI-X table at a width or place that it does not have; nothing changes", "offset", offset, "bytes", n)
		return
	}
	v := &t.vectors[i]
	copy(v.entry[offset%entrySize:], data)
	(*MSIX)(t).update(v)
}

// Pending are the pending bits.
func (m *MSIX) Pending() devices.Device { return (*msixPending)(m) }

type msixPending MSIX

func (p *msixPending) Read(offset uint64, data []byte) {
	for i := range data {
		data[i] = 0
		for bit := range 8 {
			if n := (int(offset)+i)*8 + bit; n < len(p.vectors) && p.vectors[n].pending.Load() {
				data[i] |= 1 << bit
			}
		}
	}
}

func (p *msixPending) Write(uint64, []byte) {}
