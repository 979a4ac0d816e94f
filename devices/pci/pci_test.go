package pci

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"vmm/devices"
)

const base, size = 0xd000_0000, 0x10_0000

// cells is a device that remembers what is written to it.
type cells struct{ b [0x1000]byte }

func (c *cells) Read(offset uint64, data []byte)  { copy(data, c.b[offset:]) }
func (c *cells) Write(offset uint64, data []byte) { copy(c.b[offset:], data) }

var identity = Identity{Vendor: 0x1af4, Device: 0x1042, Class: 0x018000, Revision: 1, SubVendor: 0x1af4, SubDevice: 0x40}

func read(d devices.Device, offset uint64, n int) uint64 {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0xff
	}
	d.Read(offset, b)
	return le.Uint64(append(b, make([]byte, 8)...))
}

func write(d devices.Device, offset uint64, n int, v uint64) {
	d.Write(offset, le.AppendUint64(nil, v)[:n])
}

// Both ways to the configuration space lead to the same place.
func TestConfigSpace(t *testing.T) {
	root := NewRoot(base, size)
	if err := root.Add(NewFunction(identity, &cells{}, 0x1000)); err != nil {
		t.Fatal(err)
	}
	ports, ecam := root.Ports(), root.ECAM()
	for _, tt := range []struct {
		slot, reg uint64
		n         int
		want      uint64
	}{
		{0, 0, 4, 0x0008_1b36},
		{0, 0xa, 2, 0x0600},
		{1, 0, 4, 0x1042_1af4},
		{1, 2, 2, 0x1042},
		{1, 8, 4, 0x01800001},
		{1, 0x2c, 4, 0x0040_1af4},
		{1, 0x0e, 1, 0},
		{2, 0, 4, 0xffff_ffff},
		{31, 0, 2, 0xffff},
	} {
		if got := read(ecam, tt.slot<<15|tt.reg, tt.n); got != tt.want {
			t.Errorf("ECAM: slot %d, register %#x = %#x; want %#x", tt.slot, tt.reg, got, tt.want)
		}
		write(ports, 0, 4, 1<<31|tt.slot<<11|tt.reg&^3)
		if got := read(ports, 4+tt.reg&3, tt.n); got != tt.want {
			t.Errorf("ports: slot %d, register %#x = %#x; want %#x", tt.slot, tt.reg, got, tt.want)
		}
	}
	for name, address := range map[string]uint64{"off": 1 << 11, "function 1": 1<<31 | 1<<11 | 1<<8, "bus 1": 1<<31 | 1<<16} {
		write(ports, 0, 4, address)
		if got := read(ports, 4, 4); got != 0xffff_ffff {
			t.Errorf("%s: %#x", name, got)
		}
	}
	// The rest of a function's page is there, and empty.
	if got := read(ecam, 1<<15|0x100, 4); got != 0 {
		t.Errorf("extended configuration space: %#x", got)
	}
	if got := read(ecam, 1<<15|0xffc, 8); got != 0 {
		t.Errorf("the end of the page: %#x", got)
	}
}

// The configuration space reads and writes the same at any width and place, by ECAM and
// through the ports: its bytes, zeroes behind the header's 256, and only those bits
// change that can be written.
func TestConfigSpaceWidths(t *testing.T) {
	const fn = 1 << 15
	build := func() (*Root, devices.Device, devices.Device) {
		f, _, _ := newMSIX(3)
		root := NewRoot(base, size)
		if err := root.Add(f); err != nil {
			t.Fatal(err)
		}
		return root, root.ECAM(), root.Ports()
	}
	writable := map[uint64]byte{
		regCommand: commandMemory | commandMaster, regBAR0 + 1: 0xf0, regBAR0 + 2: 0xff, regBAR0 + 3: 0xff,
		regBAR0 + 4: 0xff, regBAR0 + 5: 0xff, regBAR0 + 6: 0xff, regBAR0 + 7: 0xff,
		regCapStart + 3: (msixEnable | msixMask) >> 8,
	}
	for offset := range uint64(spaceSize + 8) {
		for _, n := range []int{1, 2, 4, 8} {
			_, ecam, ports := build()
			var image []byte
			for at := range uint64(spaceSize + 16) {
				image = append(image, byte(read(ecam, fn|at, 1)))
			}
			want := le.Uint64(append(append([]byte(nil), image[offset:][:n]...), make([]byte, 8)...))
			if got := read(ecam, fn|offset, n); got != want {
				t.Errorf("ECAM: %d bytes at %#x: %#x; want %#x", n, offset, got, want)
			}
			inPort := offset < spaceSize && int(offset&3)+n <= 4
			if inPort {
				write(ports, 0, 4, 1<<31|1<<11|offset&^3)
				if got := read(ports, 4+offset&3, n); got != want {
					t.Errorf("ports: %d bytes at %#x: %#x; want %#x", n, offset, got, want)
				}
			}

			value := uint64(0xa5a5_5a5a_c3c3_3c3c)
			for i := range n {
				mask := writable[offset+uint64(i)]
				image[int(offset)+i] = image[int(offset)+i]&^mask | byte(value>>(8*i))&mask
			}
			ways := []devices.Device{ecam}
			if inPort {
				_, again, other := build()
				write(other, 0, 4, 1<<31|1<<11|offset&^3)
				write(other, 4+offset&3, n, value)
				ways = append(ways, again)
			}
			write(ecam, fn|offset, n, value)
			for way, d := range ways {
				for at := range uint64(spaceSize + 8) {
					if got := byte(read(d, fn|at, 1)); got != image[at] {
						t.Errorf("way %d: %d bytes written at %#x: %#x is %#x; want %#x", way, n, offset, at, got, image[at])
					}
				}
			}
		}
	}
}

// The guest finds out the size of a BAR, moves it and switches it on and off.
func TestBAR(t *testing.T) {
	regs := &cells{}
	f := NewFunction(identity, regs, 0x1000)
	var moves [][2]uint64
	f.Moved = func(old, now uint64) { moves = append(moves, [2]uint64{old, now}) }
	root := NewRoot(base, size)
	if err := root.Add(f); err != nil {
		t.Fatal(err)
	}
	ecam, memory := root.ECAM(), root.Memory()
	const fn = 1 << 15
	if at := read(ecam, fn|regBAR0, 8); at != base|bar64 {
		t.Errorf("BAR 0 at %#x", at)
	}
	if got := read(memory, base, 4); got != 0xffff_ffff {
		t.Error("it answers before it is switched on")
	}
	write(ecam, fn|regBAR0, 4, 0xffff_ffff)
	write(ecam, fn|regBAR0+4, 4, 0xffff_ffff)
	if got := read(ecam, fn|regBAR0, 8); got != 0xffff_ffff_ffff_f000|bar64 {
		t.Errorf("size mask %#x", got)
	}
	write(ecam, fn|regBAR0+4, 4, 0)
	write(ecam, fn|regBAR0, 4, base+0x5000)
	write(ecam, fn|regCommand, 2, 0xffff)
	if got := read(ecam, fn|regCommand, 2); got != 6 {
		t.Errorf("command %#x", got)
	}
	write(memory, base+0x5010, 4, 0x1234_5678)
	if got := read(memory, base+0x5010, 4); got != 0x1234_5678 || le.Uint32(regs.b[0x10:]) != 0x1234_5678 {
		t.Errorf("register %#x", got)
	}
	write(ecam, fn|regBAR0, 4, base+0x7000)
	write(ecam, fn|regCommand, 2, 0)
	want := [][2]uint64{{0, base + 0x5000}, {base + 0x5000, base + 0x7000}, {base + 0x7000, 0}}
	if len(moves) != 3 || moves[0] != want[0] || moves[1] != want[1] || moves[2] != want[2] {
		t.Errorf("moves %#x; want %#x", moves, want)
	}
	write(ecam, fn, 4, 0) // the identity is not to be changed
	if got := read(ecam, fn, 4); got != 0x1042_1af4 {
		t.Errorf("identity %#x", got)
	}
}

// The guest puts BAR 0 anywhere: below 4 GiB and above, in halves or as a whole. Where
// something else is, it does not answer.
func TestBARAnywhere(t *testing.T) {
	const fn, high = 1 << 15, 0x12_3456_7000
	const ramStart, ramEnd = 0, 0x1_4000_0000
	for _, tt := range []struct {
		name   string
		writes []uint64 // offset, width, value
		want   uint64   // 0: nowhere
	}{
		{"as firmware left it", nil, base},
		{"above 4 GiB, halves", []uint64{0x10, 4, high & 0xffff_ffff, 0x14, 4, high >> 32}, high},
		{"above 4 GiB, upper half first", []uint64{0x14, 4, high >> 32, 0x10, 4, high & 0xffff_ffff}, high},
		{"above 4 GiB, as a whole", []uint64{0x10, 8, high}, high},
		{"bytes", []uint64{0x11, 1, 0x70, 0x12, 2, 0x3456, 0x14, 1, 0x12}, 0x12_3456_7000},
		{"the highest place", []uint64{0x10, 8, 1<<52 - 0x1000}, 1<<52 - 0x1000},
		{"the bits that are fixed", []uint64{0x10, 4, 0xd000_0fff}, base},
		{"over RAM", []uint64{0x10, 8, 0x10_0000}, 0},
		{"over RAM above 4 GiB", []uint64{0x10, 8, ramEnd - 0x1000}, 0},
		{"right above RAM", []uint64{0x10, 8, ramEnd}, ramEnd},
		{"at 0", []uint64{0x10, 8, 0}, 0},
		{"the lower half alone, which leads to RAM", []uint64{0x10, 4, high & 0xffff_ffff}, 0},
	} {
		for _, on := range []bool{false, true} { // decoding meanwhile
			t.Run(fmt.Sprintf("%s, decoding %v", tt.name, on), func(t *testing.T) {
				f := NewFunction(identity, &cells{}, 0x1000)
				root := NewRoot(base, size)
				root.Free = func(b, n uint64) bool {
					hole := b >= 0xc000_0000 && b+n <= 1<<32
					return hole || b >= ramEnd || b+n <= ramStart
				}
				if err := root.Add(f); err != nil {
					t.Fatal(err)
				}
				ecam, memory := root.ECAM(), root.Memory()
				if on {
					write(ecam, fn|regCommand, 2, commandMemory)
				}
				for w := tt.writes; len(w) > 0; w = w[3:] {
					write(ecam, fn|w[0], int(w[1]), w[2])
				}
				write(ecam, fn|regCommand, 2, commandMemory)
				if at := f.at.Load(); at != tt.want {
					t.Errorf("it answers at %#x; want %#x", at, tt.want)
				}
				if tt.want == 0 {
					return
				}
				write(memory, tt.want+0xff8, 8, 0x1122_3344_5566_7788)
				if got := read(memory, tt.want+0xffc, 4); got != 0x1122_3344 {
					t.Errorf("register %#x", got)
				}
				if got := read(memory, tt.want+0x1000, 4); got != 0xffff_ffff {
					t.Errorf("past the end: %#x", got)
				}
			})
		}
	}
}

func TestFull(t *testing.T) {
	root := NewRoot(base, size)
	for range Slots - 1 {
		if err := root.Add(NewFunction(identity, &cells{}, 0x1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.Add(NewFunction(identity, &cells{}, 0x1000)); err == nil {
		t.Error("a device too many")
	}
	small := NewRoot(base, 0x3000)
	if err := small.Add(NewFunction(identity, &cells{}, 0x1000)); err != nil {
		t.Fatal(err)
	}
	if err := small.Add(NewFunction(identity, &cells{}, 0x2000)); err == nil {
		t.Error("registers beyond the window")
	}
}

// message records what is done with an interrupt.
type message struct {
	sent, routed int
	addr         uint64
	data         uint32
	err          error
}

func (m *message) Signal() { m.sent++ }
func (m *message) Route(addr uint64, data uint32) error {
	m.routed++
	m.addr, m.data = addr, data
	return m.err
}

func newMSIX(n int) (*Function, *MSIX, []*message) {
	f := NewFunction(identity, &cells{}, 0x1000)
	var all []*message
	var list []devices.Message
	for range n {
		m := &message{}
		all = append(all, m)
		list = append(list, m)
	}
	return f, NewMSIX(f, list, 0x400, 0x800, slog.New(slog.DiscardHandler)), all
}

func TestMSIX(t *testing.T) {
	f, x, messages := newMSIX(3)
	config := func(offset uint64, n int) uint64 {
		b := make([]byte, n)
		f.readConfig(offset, b)
		return le.Uint64(append(b, make([]byte, 8)...))
	}
	if at := config(regCapability, 1); at != 0x40 || config(regStatus, 2)&0x10 == 0 {
		t.Fatalf("capabilities at %#x", at)
	}
	if got := config(0x40, 4); got != 2<<16|0x11 {
		t.Errorf("capability %#x", got)
	}
	if config(0x44, 4) != 0x400 || config(0x48, 4) != 0x800 {
		t.Error("the layout is wrong")
	}
	table, pending := x.Table(), x.Pending()
	control := func(v uint16) { f.writeConfig(0x42, le.AppendUint16(nil, v)) }

	x.Signal(1) // switched off: it waits
	if read(pending, 0, 8) != 2 || messages[1].sent != 0 {
		t.Errorf("pending %#x, %d sent", read(pending, 0, 8), messages[1].sent)
	}
	write(table, 16, 8, 0xfee0_1000)
	write(table, 24, 4, 0x55)
	control(msixEnable)
	if messages[1].sent != 0 {
		t.Error("sent while masked")
	}
	write(table, 28, 4, 0)
	if m := messages[1]; m.sent != 1 || m.addr != 0xfee0_1000 || m.data != 0x55 {
		t.Errorf("%+v", m)
	}
	if read(pending, 0, 8) != 0 {
		t.Error("still pending")
	}
	x.Signal(1)
	x.Signal(7) // there is none
	if messages[1].sent != 2 || messages[1].routed != 1 {
		t.Errorf("%+v", messages[1])
	}
	control(msixEnable | msixMask)
	x.Signal(1)
	if messages[1].sent != 2 || config(0x42, 2) != msixEnable|msixMask|2 {
		t.Error("sent while the function is masked")
	}
	control(msixEnable)
	if messages[1].sent != 3 {
		t.Error("not sent when unmasked")
	}
	// A new target is learned once the vector is unmasked.
	write(table, 28, 4, 1)
	write(table, 24, 4, 0x66)
	if messages[1].routed != 1 {
		t.Error("routed while masked")
	}
	write(table, 28, 4, 0)
	if messages[1].routed != 2 || messages[1].data != 0x66 {
		t.Errorf("%+v", messages[1])
	}
	// Reads of any width; writes of one that the table has.
	before := read(table, 24, 8)
	for _, w := range [][2]uint64{{24, 1}, {24, 2}, {26, 4}, {20, 8}, {25, 4}, {46, 4}} {
		write(table, w[0], int(w[1]), 0x7777_7777_7777_7777)
	}
	if got := read(table, 24, 8); got != before || read(table, 25, 2) != before>>8&0xffff || read(table, 22, 4) != before<<16&0xffff_ffff {
		t.Errorf("entry %#x; want %#x", got, before)
	}
	write(table, 48, 4, 1) // past the end
	if got := read(table, 48, 4); got != 0xffff_ffff {
		t.Errorf("past the end: %#x", got)
	}
	messages[2].err = errors.New("no")
	write(table, 44, 4, 0)
	write(table, 32, 4, 1)
	x.Signal(2)
	if messages[2].sent != 0 {
		t.Error("sent to nowhere")
	}
	x.Reset()
	if read(pending, 0, 8) != 0 {
		t.Error("pending after a reset")
	}
}

// No signal is lost while the guest masks and unmasks.
func TestMSIXRace(t *testing.T) {
	f := NewFunction(identity, &cells{}, 0x1000)
	event, err := devices.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer event.Close()
	x := NewMSIX(f, []devices.Message{eventMessage{event}}, 0, 0x800, slog.New(slog.DiscardHandler))
	f.writeConfig(0x42, le.AppendUint16(nil, msixEnable))
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		for i := uint64(0); ; i++ {
			select {
			case <-done:
				write(x.Table(), 12, 4, 0)
				return
			default:
				write(x.Table(), 12, 4, i&1)
			}
		}
	})
	for range 20000 {
		x.Signal(0)
		event.Wait() // hangs if the signal is lost
	}
	close(done)
	group.Wait()
}

type eventMessage struct{ *devices.Event }

func (eventMessage) Route(uint64, uint32) error { return nil }
