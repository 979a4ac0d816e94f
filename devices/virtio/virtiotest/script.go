package virtiotest

import "vmm/devices/virtio"

// Play does what a script of arbitrary bytes says: rings with sense and without,
// buffers at the edges of memory, registers written in any order, resets in the
// middle. It is the body of every device's fuzz target. When it returns, the
// device has been reset.
func (d *Driver) Play(script []byte) {
	s := reader{script}
	features := d.Offered()
	d.SetUp(features)
	if len(d.Rings) == 0 {
		return
	}
	buffers := d.Alloc(1<<16, 4096)
	ring := func() (int, *Ring) {
		i := s.below(len(d.Rings))
		return i, d.Rings[i]
	}
	for len(s.rest) > 0 {
		switch s.byte() % 12 {
		case 0, 1, 2:
			_, r := ring()
			r.SetDesc(uint16(s.below(r.Size)), d.address(&s, buffers, r), s.length(), s.flags(), uint16(s.below(r.Size+1)))
		case 3, 4: // a chain as it should be
			i, r := ring()
			for range r.Size {
				if _, _, ok := r.Take(); !ok {
					break
				}
			}
			chain := d.chain(&s, buffers)
			if r.Free() < len(chain) {
				continue
			}
			old := r.Available()
			r.Add(chain...)
			if r.WantsDoorbell(old) {
				d.Kick(i)
			}
		case 5:
			i, r := ring()
			r.Offer(uint16(s.below(r.Size + 1)))
			d.Kick(i)
		case 6:
			_, r := ring()
			r.SetAvail(s.half())
			d.Kick(s.below(70000))
		case 7: // contents of buffers: requests, tables
			b, err := d.Memory.Slice(buffers+uint64(s.below(1<<10)), 64)
			if err == nil {
				copy(b, s.bytes(1+s.below(64)))
			}
		case 8:
			d.SetConfig(uint64(s.byte()), s.bytes(1<<s.below(4)))
		case 9:
			d.Config(uint64(s.byte()), 1<<s.below(4))
		case 10:
			d.Set(uint64(s.byte()), uint32(s.half())|uint32(s.half())<<16)
		case 11:
			d.Reset()
			d.free = buffers + 1<<16 // the rings' memory is the device's no more
			d.SetUp(features &^ virtio.Features(s.half()))
		}
	}
	d.Reset()
}

// chain is a chain of up to 4 buffers that are RAM.
func (d *Driver) chain(s *reader, base uint64) []Buffer {
	var all []Buffer
	readable := s.below(4)
	for i := range readable + s.below(3) + 1 {
		n := uint64(s.below(600))
		addr := base + uint64(s.below(1<<15))
		data, err := d.Memory.Slice(addr, n)
		if err != nil {
			return all
		}
		all = append(all, Buffer{Addr: addr, Data: data, Write: i >= readable})
	}
	return all
}

// address is an address where there is RAM, where there is none, or between.
func (d *Driver) address(s *reader, buffers uint64, r *Ring) uint64 {
	near := uint64(s.half()) & 0x3ff
	switch s.byte() % 8 {
	case 0:
		return MemorySize - near
	case 1:
		return -near
	case 2:
		return r.Desc + near // its own table
	case 3:
		return r.Used + near
	case 4:
		return 0xffff_ff00 + near
	}
	return buffers + near
}

// reader takes a script apart. After the end it gives zeroes.
type reader struct{ rest []byte }

func (s *reader) bytes(n int) []byte {
	b := make([]byte, n)
	s.rest = s.rest[copy(b, s.rest):]
	return b
}

func (s *reader) byte() byte   { return s.bytes(1)[0] }
func (s *reader) half() uint16 { return le.Uint16(s.bytes(2)) }

func (s *reader) below(n int) int {
	if n <= 256 {
		return int(s.byte()) % n
	}
	return int(s.half()) % n
}

func (s *reader) length() uint32 {
	n := uint32(s.half())
	switch s.byte() % 4 {
	case 0:
		return n << 16
	case 1:
		return -n
	case 2:
		return n & 0xf0 // of indirect tables
	}
	return n & 0xfff
}

func (s *reader) flags() uint16 { return uint16(s.byte()) & 7 }
