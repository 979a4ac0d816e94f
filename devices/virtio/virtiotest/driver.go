// Package virtiotest is a driver for virtio devices, with a guest's memory but
// without a guest: it sets a device up through its transport and exchanges
// buffers with it, correctly or not. Tests, benchmarks and fuzz targets of
// devices share it.
package virtiotest

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/memory"
)

// MemorySize is the size of the guest's memory, in bytes.
const MemorySize = 64 << 20

// Driver is a driver with its device.
type Driver struct {
	Memory *memory.Guest
	Rings  []*Ring
	// Interrupt is signalled by the device.
	Interrupt *devices.Event
	// Regs are the registers of the MMIO transport, or those of another as
	// if they were.
	Regs devices.Device
	// Transport is that of the device.
	Transport Transport

	move func(virtio.Device) // see Move
	t    testing.TB
	free uint64 // guest memory from here on is not used yet
}

// Registers of the MMIO transport. virtio §4.2.2.
const (
	regFeatures       = 0x10
	regFeaturesSelect = 0x14
	regAccept         = 0x20
	regAcceptSelect   = 0x24
	regQueueSelect    = 0x30
	regQueueSizeMax   = 0x34
	regQueueSize      = 0x38
	regQueueReady     = 0x44
	regQueueNotify    = 0x50
	regInterrupt      = 0x60
	regInterruptAck   = 0x64
	regStatus         = 0x70
	regQueueDesc      = 0x80
	regQueueAvail     = 0x90
	regQueueUsed      = 0xa0
	regGeneration     = 0xfc
	regConfig         = 0x100
)

// Bits of the device status. virtio §2.1.
const (
	StatusAcknowledge = 1
	StatusDriver      = 2
	StatusDriverOK    = 4
	StatusFeaturesOK  = 8
	StatusNeedsReset  = 64
)

// New returns a driver for a device behind an MMIO transport, not set up yet.
// The device is closed when the test ends.
func New(t testing.TB, d virtio.Device) *Driver {
	t.Helper()
	return NewLogged(t, d, slog.New(slog.DiscardHandler))
}

// NewLogged is New with a log.
func NewLogged(t testing.TB, d virtio.Device, log *slog.Logger) *Driver {
	t.Helper()
	driver := newDriver(t)
	attach := func(d virtio.Device) {
		regs, err := virtio.NewMMIO(d, virtio.Config{Memory: driver.Memory, Log: log}, driver.Interrupt)
		if err != nil {
			t.Fatal(err)
		}
		driver.own(regs.Close)
		driver.Regs, driver.Transport = regs, regs
	}
	driver.move = attach
	attach(d)
	return driver
}

// newDriver returns a driver without a device.
func newDriver(t testing.TB) *Driver {
	t.Helper()
	m, err := memory.New(memory.Layout(MemorySize), memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{Memory: m, t: t, free: 0x1000}
	d.own(m.Close)
	if d.Interrupt, err = devices.NewEvent(); err != nil {
		t.Fatal(err)
	}
	d.own(d.Interrupt.Close)
	return d
}

// own has something closed when the test ends.
func (d *Driver) own(closer func() error) {
	d.t.Cleanup(func() {
		if err := closer(); err != nil {
			d.t.Errorf("Close: %v", err)
		}
	})
}

// Start sets the device up with those of the features that it offers, as a
// driver does. virtio §3.1.1.
func Start(t testing.TB, d virtio.Device, features virtio.Features) *Driver {
	t.Helper()
	driver := New(t, d)
	driver.SetUp(features)
	return driver
}

// SetUp takes the device through its initialization.
func (d *Driver) SetUp(features virtio.Features) {
	d.t.Helper()
	features &= d.Offered()
	features |= virtio.FeatureVersion1
	d.SetStatus(StatusAcknowledge)
	d.SetStatus(StatusAcknowledge | StatusDriver)
	d.Accept(features)
	d.SetStatus(StatusAcknowledge | StatusDriver | StatusFeaturesOK)
	if d.Status()&StatusFeaturesOK == 0 {
		d.t.Fatal("the device refuses the features")
	}
	d.AddRings(features)
	d.SetStatus(StatusAcknowledge | StatusDriver | StatusFeaturesOK | StatusDriverOK)
	if s := d.Status(); s&StatusNeedsReset != 0 {
		d.t.Fatalf("the device did not start: status %#x", s)
	}
}

// AddRings makes a ring for each queue and tells the device.
func (d *Driver) AddRings(features virtio.Features) {
	d.Rings = nil
	for i := range 1 << 16 {
		d.Set(regQueueSelect, uint32(i))
		size := min(d.Get(regQueueSizeMax), 256)
		if size == 0 {
			return
		}
		r := newRing(d.t, d.Memory, d.Alloc, int(size), features&virtio.FeatureEventIdx != 0)
		d.Rings = append(d.Rings, r)
		d.Enable(i, r)
	}
}

// Enable tells the device where the ring of queue i is.
func (d *Driver) Enable(i int, r *Ring) {
	d.Set(regQueueSelect, uint32(i))
	d.Set(regQueueSize, uint32(r.Size))
	for reg, addr := range map[uint64]uint64{regQueueDesc: r.Desc, regQueueAvail: r.Avail, regQueueUsed: r.Used} {
		d.Set(reg, uint32(addr))
		d.Set(reg+4, uint32(addr>>32))
	}
	d.Set(regQueueReady, 1)
}

// words are the operands of writes to registers: several CPUs may write at
// once, and a write is to allocate nothing.
var words = sync.Pool{New: func() any { return new([4]byte) }}

// Set writes a register.
func (d *Driver) Set(reg uint64, v uint32) {
	word := words.Get().(*[4]byte)
	defer words.Put(word)
	le.PutUint32(word[:], v)
	d.Regs.Write(reg, word[:])
}

// Get reads a register.
func (d *Driver) Get(reg uint64) uint32 {
	b := []byte{0xff, 0xff, 0xff, 0xff}
	d.Regs.Read(reg, b)
	return le.Uint32(b)
}

// Offered are the features that the device offers.
func (d *Driver) Offered() virtio.Features {
	d.Set(regFeaturesSelect, 0)
	low := d.Get(regFeatures)
	d.Set(regFeaturesSelect, 1)
	return virtio.Features(low) | virtio.Features(d.Get(regFeatures))<<32
}

// Accept accepts features.
func (d *Driver) Accept(f virtio.Features) {
	d.Set(regAcceptSelect, 0)
	d.Set(regAccept, uint32(f))
	d.Set(regAcceptSelect, 1)
	d.Set(regAccept, uint32(f>>32))
}

// SetStatus writes the device status; 0 resets the device.
func (d *Driver) SetStatus(s uint32) { d.Set(regStatus, s) }

// Status reads the device status.
func (d *Driver) Status() uint32 { return d.Get(regStatus) }

// Reset resets the device, and waits until it has been reset, as the specification
// asks of drivers. virtio §2.4.2.
func (d *Driver) Reset() {
	d.t.Helper()
	d.SetStatus(0)
	for deadline := time.Now().Add(patience); d.Status() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("status %#x; want the device reset", d.Status())
		}
	}
}

// Generation reads the configuration's generation.
func (d *Driver) Generation() uint32 { return d.Get(regGeneration) }

// Config reads n bytes of the configuration space at an offset.
func (d *Driver) Config(offset uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0xff
	}
	d.Regs.Read(regConfig+offset, b)
	return b
}

// SetConfig writes to the configuration space.
func (d *Driver) SetConfig(offset uint64, data []byte) { d.Regs.Write(regConfig+offset, data) }

// Reasons reads and acknowledges the reasons for interrupts: 1 for queues, 2
// for the configuration.
func (d *Driver) Reasons() uint32 {
	reasons := d.Get(regInterrupt)
	d.Set(regInterruptAck, reasons)
	return reasons
}

// Alloc returns n bytes of guest memory that nothing uses yet.
func (d *Driver) Alloc(n, align uint64) uint64 {
	addr := (d.free + align - 1) / align * align
	d.free = addr + n
	if d.free > MemorySize {
		d.t.Fatal("virtiotest: out of guest memory")
	}
	return addr
}

// Mark is where guest memory is not used yet. Free has what was allocated since used
// again: the device must have been reset.
func (d *Driver) Mark() uint64     { return d.free }
func (d *Driver) Free(mark uint64) { d.free = mark }

// Out is a new buffer that the device reads.
func (d *Driver) Out(data []byte) Buffer {
	b := d.In(len(data))
	b.Write = false
	copy(b.Data, data)
	return b
}

// In is a new buffer of n bytes that the device writes.
func (d *Driver) In(n int) Buffer {
	addr := d.Alloc(uint64(n), 8)
	data, err := d.Memory.Slice(addr, uint64(n))
	if err != nil {
		d.t.Fatal(err)
	}
	return Buffer{Addr: addr, Data: data, Write: true}
}

// Kick rings the doorbell of queue i.
func (d *Driver) Kick(i int) { d.Set(regQueueNotify, uint32(i)) }

// Do makes one chain available in queue i, waits until the device has given it
// back, and returns the number of bytes written.
func (d *Driver) Do(i int, buffers ...Buffer) uint32 {
	d.t.Helper()
	r := d.Rings[i]
	r.WantInterrupt(true)
	want := r.Add(buffers...)
	d.Kick(i)
	head, n := d.Wait(i)
	if head != want {
		d.t.Fatalf("the device gave back chain %d; want %d", head, want)
	}
	return n
}

// patience is how long a device may take. It is for hangs.
const patience = 20 * time.Second

// Wait waits for the device to give back a chain of queue i.
func (d *Driver) Wait(i int) (head uint16, n uint32) {
	d.t.Helper()
	r := d.Rings[i]
	for deadline := time.Now().Add(patience); ; {
		r.WantInterrupt(true)
		if head, n, ok := r.Take(); ok {
			return head, n
		}
		if !d.WaitInterrupt(time.Until(deadline)) {
			d.t.Fatalf("queue %d: the device gives nothing back", i)
		}
	}
}

// WaitInterrupt waits for an interrupt and reports whether one came in time.
func (d *Driver) WaitInterrupt(timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(d.Interrupt.FD()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(timeout); ; {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		if n == 1 {
			d.Interrupt.Wait()
		}
		return n == 1
	}
}

// WaitStatus waits until the device status has a bit.
func (d *Driver) WaitStatus(bit uint32) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); d.Status()&bit == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("status %#x; want bit %#x", d.Status(), bit)
		}
	}
}

// Flood makes every queue full of the longest chains that the device takes, by way of
// indirect tables: each with a number of pieces for the device to read, the first of
// which is head, and the others for it to write, the last of which is tail; those
// between are all the same memory. Nothing takes them back out.
func (d *Driver) Flood(head, data, tail Buffer, readable int) {
	for i, r := range d.Rings {
		table := d.In(16 * r.Size)
		for k := range uint16(r.Size) {
			b, flags := data, uint16(0)
			switch {
			case k == 0 && readable > 0:
				b = head
			case int(k) == r.Size-1:
				b = tail
			}
			if int(k) >= readable {
				flags |= Write
			}
			if int(k) < r.Size-1 {
				flags |= Next
			}
			PutDesc(table.Data[16*k:], b.Addr, uint32(len(b.Data)), flags, k+1)
		}
		for k := range uint16(r.Size) {
			r.SetDesc(k, table.Addr, uint32(len(table.Data)), Indirect, 0)
			r.Offer(k)
		}
		d.Kick(i)
	}
}
