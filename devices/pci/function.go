package pci

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"vmm/devices"
)

var le = binary.LittleEndian

// Registers of the configuration space of a function. PCI §6.1, §6.2.
const (
	regVendor     = 0x00
	regDevice     = 0x02
	regCommand    = 0x04
	regStatus     = 0x06
	regRevision   = 0x08
	regClass      = 0x09 // three bytes
	regBAR0       = 0x10
	regSubVendor  = 0x2c
	regSubDevice  = 0x2e
	regCapability = 0x34
	regCapStart   = 0x40 // the first byte that is the function's own

	commandMemory = 1 << 1
	commandMaster = 1 << 2

	statusCapabilities = 1 << 4

	barFlags  = 0xf // of which the guest changes none
	bar64     = 4   // the address takes the next register too
	barLength = 8   // bytes, both registers

	spaceSize = 256
)

// Identity is what a function says that it is.
type Identity struct {
	Vendor, Device       uint16
	Class                uint32 // class, subclass and interface, a byte each
	Revision             uint8
	SubVendor, SubDevice uint16
}

// Function is a function of a PCI device: its configuration space, with
// capabilities, and one range of memory-mapped registers, BAR 0. Its address has 64
// bits. It is not prefetchable: writes to registers must not be merged. A function
// has no interrupt pin: what interrupts does so with messages.
type Function struct {
	// Name is for people.
	Name string
	// Moved, if set, is called when the guest has BAR 0 answer at another
	// address, 0 for none. It is called with the function locked.
	Moved func(old, now uint64)

	mu    sync.Mutex
	space [spaceSize]byte
	caps  []capability
	bar   devices.Device
	size  uint64 // of bar; a power of 2
	free  func(base, size uint64) bool
	at    atomic.Uint64
}

// capability is a part of the configuration space that a device answers for.
type capability struct {
	start, end int
	device     devices.Device
}

// NewFunction returns a function with size bytes of registers at BAR 0, or none
// if size is 0.
func NewFunction(id Identity, bar devices.Device, size uint64) *Function {
	if size != 0 && (size < 16 || bits.OnesCount64(size) != 1) {
		panic(fmt.Sprintf("pci: a BAR of %d bytes", size))
	}
	f := &Function{bar: bar, size: size}
	le.PutUint16(f.space[regVendor:], id.Vendor)
	le.PutUint16(f.space[regDevice:], id.Device)
	le.PutUint32(f.space[regRevision:], id.Class<<8|uint32(id.Revision))
	le.PutUint16(f.space[regSubVendor:], id.SubVendor)
	le.PutUint16(f.space[regSubDevice:], id.SubDevice)
	if size != 0 {
		f.space[regBAR0] = bar64
	}
	return f
}

// AddCapability adds a capability of size bytes, its two bytes of header
// included. d answers for those after the header; its offsets count from the
// header's start. PCI §6.7. All capabilities come before the first access.
func (f *Function) AddCapability(id byte, size int, d devices.Device) {
	start := regCapStart
	last := &f.space[regCapability]
	if n := len(f.caps); n > 0 {
		start = (f.caps[n-1].end + 3) &^ 3
		last = &f.space[f.caps[n-1].start+1]
	}
	if start+size > spaceSize {
		panic("pci: no room for a capability")
	}
	*last = byte(start)
	f.space[start] = id
	f.space[regStatus] |= statusCapabilities
	f.caps = append(f.caps, capability{start, start + size, d})
}

// Registers are a capability that only says something: a device that reads as
// its bytes, the first two of which are the header's.
type Registers []byte

// Read implements devices.Device.
func (r Registers) Read(offset uint64, data []byte) {
	if offset < uint64(len(r)) {
		copy(data, r[offset:])
	}
}

// Write implements devices.Device: nothing changes.
func (r Registers) Write(uint64, []byte) {}

// place puts BAR 0 at an address, as firmware does before the system starts.
// The system switches it on.
func (f *Function) place(addr uint64) { le.PutUint64(f.space[regBAR0:], addr|bar64) }

// readConfig reads the configuration space; beyond it lies the extended one of
// PCI Express, where there is nothing.
func (f *Function) readConfig(offset uint64, data []byte) {
	clear(data)
	if offset >= spaceSize {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(data, f.space[offset:])
	for _, c := range f.caps {
		if at, part := c.part(offset, data); len(part) > 0 {
			c.device.Read(at, part)
		}
	}
}

// part is the part of an access that the capability's device answers for: what
// lies after the header, and from where on.
func (c *capability) part(offset uint64, data []byte) (at uint64, part []byte) {
	low := max(int(offset), c.start+2)
	high := min(int(offset)+len(data), c.end)
	if low >= high {
		return 0, nil
	}
	return uint64(low - c.start), data[low-int(offset) : high-int(offset)]
}

func (f *Function) writeConfig(offset uint64, data []byte) {
	if offset >= spaceSize {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.caps {
		if at, part := c.part(offset, data); len(part) > 0 {
			c.device.Write(at, part)
		}
	}
	for i, b := range data {
		f.writeByte(int(offset)+i, b)
	}
	f.decode()
}

// writeByte writes a byte of the header. What can be written there are two bits
// of the command register, and those of BAR 0 that are not fixed by its size:
// which is how the guest learns the size. PCI §6.2.5.1.
func (f *Function) writeByte(i int, b byte) {
	switch {
	case i == regCommand:
		f.space[i] = b & (commandMemory | commandMaster)
	case i >= regBAR0 && i < regBAR0+barLength && f.size != 0:
		fixed := byte((f.size - 1) >> (8 * (i - regBAR0)))
		f.space[i] = f.space[i]&fixed | b&^fixed
	}
}

// decode brings the address where BAR 0 answers up to date. Where it would lie over
// RAM, say, it does not answer: on a PC it would never be asked.
func (f *Function) decode() {
	now := uint64(0)
	if f.space[regCommand]&commandMemory != 0 {
		now = le.Uint64(f.space[regBAR0:]) &^ barFlags
	}
	if now != 0 && f.free != nil && !f.free(now, f.size) {
		now = 0
	}
	old := f.at.Swap(now)
	if old != now && f.Moved != nil {
		f.Moved(old, now)
	}
}
