package virtio_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

var widths = []int{1, 2, 4, 8}

func readBytes(d devices.Device, offset uint64, n int) []byte {
	b := bytes.Repeat([]byte{0xff}, n)
	d.Read(offset, b)
	return b
}

// Reads of the registers of the MMIO transport at any width and place give the bytes
// of the registers there, across the edge of the configuration space too.
func TestMMIOReadWidths(t *testing.T) {
	d := virtiotest.Start(t, &echo{}, 0)
	d.Set(0x30, 1)
	var image []byte
	for offset := uint64(0); offset < 0x110; offset += 4 {
		image = append(image, readBytes(d.Regs, offset, 4)...)
	}
	for _, n := range widths {
		for offset := range uint64(0x108) {
			if got, want := readBytes(d.Regs, offset, n), image[offset:][:n]; !bytes.Equal(got, want) {
				t.Errorf("%d bytes at %#x: % x; want % x", n, offset, got, want)
			}
		}
	}
}

// setups is what a driver can set in a queue, for comparison.
func setups(s virtio.State) [][4]uint64 {
	var all [][4]uint64
	for _, q := range s.Queues {
		enabled := uint64(0)
		if q.Enabled {
			enabled = 1
		}
		all = append(all, [4]uint64{uint64(q.Size) | enabled<<32, q.Desc, q.Avail, q.Used})
	}
	return all
}

// Each register of the MMIO transport, written at each width and place: 32 bits and,
// for two at once, 64 have an effect, anything else has none; and nothing passes in
// silence.
func TestMMIOWriteWidths(t *testing.T) {
	const value = 0x0000_0044_0000_0020
	for offset := range uint64(0x100) {
		for _, n := range widths {
			// Arrange: what the same does in writes of 32 bits.
			proper := offset%4 == 0 && n >= 4
			run := func(write func(d *virtiotest.Driver)) (state string, warned int) {
				w := &warnings{}
				d := virtiotest.NewLogged(t, &echo{}, slog.New(w))
				d.SetStatus(3)
				d.Set(0x30, 1)
				write(d)
				s := d.Regs.(*virtio.MMIO).State()
				return fmt.Sprint(setups(s), s.Status, s.Accepted, readBytes(d.Regs, 0, 0x100)), len(w.texts())
			}
			want, _ := run(func(d *virtiotest.Driver) {
				if !proper {
					return
				}
				d.Set(offset, value&0xffff_ffff)
				if n == 8 && offset+4 < 0x100 {
					d.Set(offset+4, value>>32)
				}
			})

			got, warned := run(func(d *virtiotest.Driver) { d.Regs.Write(offset, le.AppendUint64(nil, value)[:n]) })

			if got != want {
				t.Errorf("%d bytes at %#x:\n%s; want\n%s", n, offset, got, want)
			}
			if !proper && warned != 1 {
				t.Errorf("%d bytes at %#x: %d warnings; want one", n, offset, warned)
			}
		}
	}
}

// pciWritable are the common configuration's registers that can be written.
var pciWritable = []struct{ offset, width uint64 }{
	{0x00, 4}, {0x08, 4}, {0x0c, 4}, {0x10, 2}, {0x14, 1}, {0x16, 2}, {0x18, 2}, {0x1a, 2}, {0x1c, 2}, {0x20, 8}, {0x28, 8}, {0x30, 8},
}

// Each place of the common configuration, read and written at each width: a read
// gives the bytes of the registers there; a write changes those bytes of each register
// that can be written, and no other, as on a bus with byte enables. A write without an
// effect leaves a warning.
func TestPCIWidths(t *testing.T) {
	const size = 0x38
	for offset := range uint64(size + 8) {
		for _, n := range widths {
			w := &warnings{}
			d, root, _ := virtiotest.NewPCILogged(t, &echo{}, slog.New(w))
			regs := root.Memory()
			at := func(reg uint64) uint64 { return virtiotest.WindowAddr + reg }
			d.SetStatus(3)
			regs.Write(at(0x16), []byte{1, 0}) // queue 1
			before := readBytes(regs, at(0), size)
			if got, want := readBytes(regs, at(offset), n), append(bytes.Clone(before), bytes.Repeat([]byte{0xff}, 16)...)[offset:][:n]; !bytes.Equal(got, want) {
				t.Errorf("%d bytes at %#x: % x; want % x", n, offset, got, want)
			}

			// A pattern that selects queue 1 again, takes a step, and enables.
			pattern := []byte{
				0: 1, 8: 1, 12: 1, 0x10: 1, 0x14: 0xb, 0x16: 1, 0x18: 4, 0x1a: 2, 0x1c: 1,
				0x20: 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x80, 0x91, 0xa2, 0xb3, 0xc4, 0xd5, 0xe6, 0xf7,
				0x08, 0x19, 0x2a, 0x3b, 0x4c, 0x5d, 0x6e, size + 15: 0,
			}
			want := bytes.Clone(before)
			effect := false
			for _, r := range pciWritable {
				for i := max(offset, r.offset); i < min(offset+uint64(n), r.offset+r.width); i++ {
					want[i] = pattern[i]
					effect = true
				}
			}
			for _, vector := range []uint64{0x10, 0x1a} { // there are three
				if le.Uint16(want[vector:]) > 2 {
					want[vector], want[vector+1] = 0xff, 0xff
				}
			}
			if want[0x1c] == 1 && offset <= 0x1c {
				// The queue is in use before its addresses are written.
				copy(want[0x20:], before[0x20:])
			}
			regs.Write(at(offset), pattern[offset:][:n])
			got := readBytes(regs, at(0), size)
			// What a feature word reads as follows from its selector, and a step of
			// the status without the one before it is completed.
			copy(want[4:8], got[4:8])
			if offset < 0x0c && offset+uint64(n) > 0x08 {
				copy(want[0x0c:0x10], got[0x0c:0x10])
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes at %#x:\n% x; want\n% x", n, offset, got, want)
			}
			if warned := len(w.texts()) > 0; !effect && !warned {
				t.Errorf("%d bytes at %#x: no effect, and no warning", n, offset)
			}
		}
	}
}

// A 64-bit write to an address of a queue counts, as do its halves in either order:
// a queue that is set up so works.
func TestPCIQueueAddresses(t *testing.T) {
	for name, write := range map[string]func(regs devices.Device, at, v uint64){
		"64 bits": func(regs devices.Device, at, v uint64) { regs.Write(at, le.AppendUint64(nil, v)) },
		"halves": func(regs devices.Device, at, v uint64) {
			regs.Write(at, le.AppendUint32(nil, uint32(v)))
			regs.Write(at+4, le.AppendUint32(nil, uint32(v>>32)))
		},
		"upper half first": func(regs devices.Device, at, v uint64) {
			regs.Write(at+4, le.AppendUint32(nil, uint32(v>>32)))
			regs.Write(at, le.AppendUint32(nil, uint32(v)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, root, _ := virtiotest.NewPCI(t, &echo{})
			d.SetStatus(3)
			d.Accept(virtio.FeatureVersion1)
			d.SetStatus(0xb)
			d.AddRings(0)
			r := d.Rings[0]
			d.Reset()
			d.SetStatus(1)
			d.SetStatus(3)
			d.Accept(virtio.FeatureVersion1)
			d.SetStatus(0xb)
			d.Set(0x30, 0)
			d.Set(0x38, uint32(r.Size))
			for reg, addr := range map[uint64]uint64{0x20: r.Desc, 0x28: r.Avail, 0x30: r.Used} {
				write(root.Memory(), virtiotest.WindowAddr+reg, addr)
			}
			d.Set(0x44, 1)
			d.SetStatus(0xf)
			if n := d.Do(0, d.Out([]byte("hello")), d.In(8)); n != 5 {
				t.Errorf("%d bytes; want 5", n)
			}
		})
	}
}

// Doorbells are rung by a write of any width.
func TestPCIDoorbellWidths(t *testing.T) {
	for _, n := range widths {
		d, root, _ := virtiotest.NewPCI(t, &echo{})
		d.SetUp(0)
		d.Rings[1].WantInterrupt(true)
		d.Rings[1].Add(d.Out([]byte("hello")), d.In(8))
		root.Memory().Write(virtiotest.WindowAddr+0x3004, make([]byte, n))
		if _, got := d.Wait(1); got != 5 {
			t.Errorf("%d bytes wide: %d bytes came; want 5", n, got)
		}
	}
}

// The window in PCI's configuration space shows a register's bytes at any width.
func TestPCIAccessWidths(t *testing.T) {
	w := &warnings{}
	_, root, _ := virtiotest.NewPCILogged(t, &echo{}, slog.New(w))
	const slot = 1 << 15
	ecam := root.ECAM()
	at := uint64(readBytes(ecam, slot+0x34, 1)[0])
	for ; at != 0; at = uint64(readBytes(ecam, slot+at+1, 1)[0]) {
		if b := readBytes(ecam, slot+at, 4); b[0] == 9 && b[3] == 5 {
			break
		}
	}
	if at == 0 {
		t.Fatal("no such capability")
	}
	ecam.Write(slot+at+8, []byte{0x10, 0, 0, 0})
	ecam.Write(slot+at+12, []byte{4, 0, 0, 0})
	const want = "\xff\xff\x02\x00" // config_msix_vector, num_queues
	for _, n := range widths[:3] {
		for i := 0; i+n <= 4; i += n {
			if got := readBytes(ecam, slot+at+16+uint64(i), n); string(got) != want[i:i+n] {
				t.Errorf("%d bytes at %d: % x; want % x", n, i, got, want[i:i+n])
			}
		}
	}
	if got := readBytes(ecam, slot+at+12, 8); string(got) != "\x04\x00\x00\x00"+want {
		t.Errorf("8 bytes across: % x", got)
	}
	ecam.Write(slot+at+16, []byte{1})
	ecam.Write(slot+at+18, []byte{1, 0})
	if all := w.texts(); len(all) != 1 {
		t.Errorf("warnings %q; want one", all)
	}
	ecam.Write(slot+at+16, []byte{1, 0, 0, 0})
	if got := readBytes(ecam, slot+at+16, 4); string(got) != "\x01\x00\x02\x00" {
		t.Errorf("config_msix_vector, num_queues: % x", got)
	}
}
