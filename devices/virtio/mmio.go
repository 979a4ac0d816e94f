package virtio

import (
	"sync/atomic"

	"vmm/devices"
)

// Registers of the MMIO transport, all of them 32 bits wide. virtio §4.2.2.
const (
	mmioMagic           = 0x000
	mmioVersion         = 0x004
	mmioDeviceID        = 0x008
	mmioVendorID        = 0x00c
	mmioFeatures        = 0x010
	mmioFeaturesSelect  = 0x014
	mmioAccept          = 0x020
	mmioAcceptSelect    = 0x024
	mmioQueueSelect     = 0x030
	mmioQueueSizeMax    = 0x034
	mmioQueueSize       = 0x038
	mmioQueueReady      = 0x044
	mmioQueueNotify     = 0x050
	mmioInterruptStatus = 0x060
	mmioInterruptAck    = 0x064
	mmioStatus          = 0x070
	mmioQueueDesc       = 0x080 // low half, then high half
	mmioQueueDriver     = 0x090
	mmioQueueDevice     = 0x0a0
	mmioSHMSelect       = 0x0ac
	mmioGeneration      = 0x0fc
	mmioConfig          = 0x100 // the configuration space of the device's type

	// MMIOSize is the size of the registers with the configuration space.
	MMIOSize = 0x200
)

const (
	magic    = 0x7472_6976 // "virt"
	version  = 2           // not a legacy device
	vendorID = 0x4d4d_56   // "VMM"
)

// Bits of the interrupt status. virtio §4.2.2, §4.1.4.5.
const (
	interruptQueue  = 1
	interruptConfig = 2
)

// MMIO is the transport by memory-mapped registers and one interrupt. virtio
// §4.2. The driver acknowledges each interrupt in a register: two exits, which
// the PCI transport does without.
type MMIO struct {
	transport
	queued, changed mmioInterrupt
	pending         atomic.Uint32 // interrupt status
}

var _ devices.Device = (*MMIO)(nil)

// mmioInterrupt is the line, with the reason for the interrupt.
type mmioInterrupt struct {
	mmio   *MMIO
	reason uint32
	line   devices.Interrupt
}

// Signal says why and then interrupts. An edge comes after each reason, so none
// is lost: at worst the driver finds nothing left to do.
func (i *mmioInterrupt) Signal() {
	i.mmio.pending.Or(i.reason)
	i.line.Signal()
}

// NewMMIO puts a device behind the MMIO transport. It takes the device over:
// Close closes it, as does a failure.
func NewMMIO(d Device, c Config, line devices.Interrupt) (*MMIO, error) {
	m := &MMIO{}
	m.queued = mmioInterrupt{m, interruptQueue, line}
	m.changed = mmioInterrupt{m, interruptConfig, line}
	m.interrupts = m
	return m, m.init(d, c)
}

func (m *MMIO) queue(int) devices.Interrupt { return &m.queued }
func (m *MMIO) config() devices.Interrupt   { return &m.changed }

// Doorbells are the writes that ring the queues' doorbells.
func (m *MMIO) Doorbells() []Doorbell {
	var all []Doorbell
	for i, event := range m.doorbells {
		index := uint64(i)
		all = append(all, Doorbell{Event: event, Offset: mmioQueueNotify, Size: 4, Match: &index})
	}
	return all
}

// forget is a reset's part: no reasons for an interrupt are left.
func (m *MMIO) forget() { m.pending.Store(0) }

// Read implements devices.Device. At another width or alignment than that of the
// registers, a driver reads the bytes that lie there, as from any memory.
func (m *MMIO) Read(offset uint64, data []byte) {
	for len(data) > 0 {
		if offset >= mmioConfig {
			m.device.ReadConfig(offset-mmioConfig, data)
			return
		}
		var word [4]byte
		le.PutUint32(word[:], m.read(offset&^3))
		n := copy(data, word[offset&3:])
		offset, data = offset+uint64(n), data[n:]
	}
}

func (m *MMIO) read(offset uint64) uint32 {
	switch offset {
	case mmioMagic:
		return magic
	case mmioVersion:
		return version
	case mmioDeviceID:
		return uint32(m.info.Type)
	case mmioVendorID:
		return vendorID
	case mmioInterruptStatus:
		return m.pending.Load()
	case mmioStatus:
		return m.status.Load()
	case mmioGeneration:
		return m.generation.Load()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch offset {
	case mmioFeatures:
		return m.features()
	case mmioQueueSizeMax:
		if int(m.queueSelect) < len(m.info.Queues) {
			return uint32(m.info.Queues[m.queueSelect])
		}
		return 0
	case mmioQueueReady:
		if q := m.selected(); q != nil && q.enabled {
			return 1
		}
		return 0
	}
	return 0xffff_ffff // among them: no shared memory. virtio §4.2.2
}

// Write implements devices.Device. A 64-bit write is one to each of two registers,
// as with QEMU. Of any other that is not a register's the driver has no right to
// expect anything. virtio §4.2.2.2.
func (m *MMIO) Write(offset uint64, data []byte) {
	for len(data) > 0 {
		if offset >= mmioConfig {
			m.device.WriteConfig(offset-mmioConfig, data)
			return
		}
		if offset%4 != 0 || len(data) < 4 {
			m.warn("the driver writes to a part of a 32-bit register; nothing changes", "offset", hex(offset), "bytes", len(data))
			return
		}
		m.write(offset, le.Uint32(data))
		offset, data = offset+4, data[4:]
	}
}

func (m *MMIO) write(offset uint64, v uint32) {
	switch offset {
	case mmioQueueNotify:
		m.ring(v)
	case mmioInterruptAck:
		m.pending.And(^v)
	case mmioStatus:
		m.mu.Lock()
		wait := m.setStatus(v)
		m.mu.Unlock()
		m.await(wait)
	default:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.set(offset, v)
	}
}

// set writes a register that is no more than memory, with the lock held.
func (m *MMIO) set(offset uint64, v uint32) {
	switch offset {
	case mmioFeaturesSelect:
		m.featureSelect = v
	case mmioAcceptSelect:
		m.acceptSelect = v
	case mmioAccept:
		m.accept(v)
	case mmioQueueSelect:
		m.queueSelect = v
	case mmioQueueReady:
		m.enable(v&1 != 0)
	case mmioQueueSize:
		if q := m.settable(); q != nil {
			q.size = uint16(min(v, 0xffff)) // activate has it checked
		}
	case mmioQueueDesc, mmioQueueDesc + 4, mmioQueueDriver, mmioQueueDriver + 4, mmioQueueDevice, mmioQueueDevice + 4:
		if q := m.settable(); q != nil {
			part := [...]*uint64{&q.desc, &q.avail, &q.used}[(offset-mmioQueueDesc)/0x10]
			setHalf(part, offset%8 != 0, v)
		}
	case mmioSHMSelect: // there is no shared memory, whichever is selected
	default:
		m.warn("the driver writes to a register that cannot be written", "offset", hex(offset), "value", hex(v))
	}
}

// setHalf sets one half of a 64-bit register.
func setHalf(r *uint64, high bool, v uint32) {
	if high {
		*r = *r&0xffff_ffff | uint64(v)<<32
	} else {
		*r = *r&^0xffff_ffff | uint64(v)
	}
}
