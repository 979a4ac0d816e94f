package virtio_test

import (
	"testing"
	"time"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

func TestPCI(t *testing.T) {
	e := &echo{}
	d, _, messages := virtiotest.NewPCI(t, e)
	for range 3 { // a second and a third driver
		d.SetUp(virtio.FeatureEventIdx)
		for i := range d.Rings {
			if n := d.Do(i, d.Out([]byte("hello")), d.In(8)); n != 5 {
				t.Errorf("queue %d: %d bytes; want 5", i, n)
			}
		}
		before := d.Generation()
		e.change(0x1122_3344_5566_7788)
		if !d.WaitInterrupt(time.Second) || d.Generation() == before {
			t.Error("no interrupt, or the same generation")
		}
		if v := le.Uint64(d.Config(0, 8)); v != 0x1122_3344_5566_7788 {
			t.Errorf("configuration %#x", v)
		}
		d.Reset()
		if s := d.Status(); s != 0 {
			t.Errorf("status %#x after a reset", s)
		}
	}
	for i, m := range messages {
		if m.Addr.Load() != 0xfee0_0000 || m.Data.Load() != uint32(0x40+i) {
			t.Errorf("message %d goes to %#x, %#x", i, m.Addr.Load(), m.Data.Load())
		}
	}
}

// The window in the configuration space reaches the registers.
func TestPCIAccess(t *testing.T) {
	_, root, _ := virtiotest.NewPCI(t, &echo{})
	const address, data = 0, 4
	ports := root.Ports()
	read := func(reg uint32) uint32 {
		ports.Write(address, le.AppendUint32(nil, 1<<31|1<<11|reg&0xfc))
		b := make([]byte, 4)
		ports.Read(data, b)
		return le.Uint32(b)
	}
	write := func(reg uint32, v uint32, n int) {
		ports.Write(address, le.AppendUint32(nil, 1<<31|1<<11|reg&0xfc))
		ports.Write(data+uint64(reg&3), le.AppendUint32(nil, v)[:n])
	}
	at := read(0x34) & 0xff
	for ; at != 0 && (read(at)&0xff != 9 || read(at)>>24 != 5); at = read(at) >> 8 & 0xff {
	}
	if at == 0 {
		t.Fatal("no such capability")
	}
	write(at+8, 0x12, 4) // number of queues
	write(at+12, 2, 4)
	if n := read(at+16) & 0xffff; n != 2 {
		t.Errorf("%d queues; want 2", n)
	}
	write(at+8, 0x14, 4)
	write(at+12, 1, 4)
	write(at+16, 1, 1)
	if s := read(at+16) & 0xff; s != 1 {
		t.Errorf("status %d; want 1", s)
	}
	for _, bad := range []uint32{0, 3, 8, 0xffff_ffff} { // widths that no register has
		write(at+12, bad, 4)
		write(at+16, 0, 4)
	}
	write(at+12, 4, 4)
	write(at+8, 0xffff_fffc, 4)
	read(at + 16)
}

func FuzzPCI(f *testing.F) {
	f.Add([]byte{0, 4, 0, 6, 0, 0, 0, 1, 0, 0x14, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		e := &echo{}
		d, root, _ := virtiotest.NewPCI(t, e)
		d.SetUp(virtio.FeatureEventIdx)
		for ; len(script) >= 8; script = script[8:] {
			where, value, n := uint64(le.Uint16(script[1:])), script[3:7], 1<<(script[7]%4)
			value = append(value, value...)[:n]
			b := make([]byte, n)
			switch script[0] % 4 {
			case 0:
				root.ECAM().Write(1<<15+where%0x200, value)
				root.ECAM().Read(1<<15+where%0x200, b)
			case 1:
				root.Memory().Write(virtiotest.WindowAddr+where%0x8000, value)
				root.Memory().Read(virtiotest.WindowAddr+where%0x8000, b)
			case 2:
				root.Memory().Write(virtiotest.WindowAddr+where%0x40, value)
			case 3:
				d.Kick(int(where))
			}
		}
	})
}
