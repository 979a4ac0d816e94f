// Package memory is the RAM of a guest: host memory mapped at guest-physical
// addresses, and the only way to reach it.
//
// Every address and length that a guest supplies passes through [Guest.Slice],
// which answers with an error instead of a byte outside RAM. Nothing else in
// vmm indexes guest memory.
package memory

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// Region is a contiguous piece of RAM: where the guest sees it, and the host
// memory behind it.
type Region struct {
	Range
	host []byte
}

// Host is the host memory behind r, Size bytes long. It is for handing the
// mapping to KVM; use [Guest.Slice] to read or write guest memory.
func (r *Region) Host() []byte { return r.host }

// Guest is the RAM of one guest. Its methods may be called concurrently with
// one another and with running vCPUs: bytes read may change at any moment, so
// a value taken from guest memory is copied once and then checked. Close must
// come after the last use of any slice.
type Guest struct {
	regions []Region
	whole   bool     // the size of its pages is settled
	mapped  pieces   // behind which there is a file
	file    *os.File // of Options
}

// RangeError says that an access was not wholly inside one region of RAM.
type RangeError struct {
	Addr, Size uint64 // guest-physical address and length, in bytes
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("guest memory: %d bytes at %#x are not RAM", e.Size, e.Addr)
}

// Slice returns the n bytes of RAM at guest-physical address addr, as a window
// on guest memory and not a copy. It fails with a [*RangeError] when they do
// not all lie in one region.
func (g *Guest) Slice(addr, n uint64) ([]byte, error) {
	for i := range g.regions {
		r := &g.regions[i]
		if r.Contains(addr, n) {
			off := addr - r.Start
			return r.host[off : off+n : off+n], nil
		}
	}
	return nil, &RangeError{addr, n}
}

// ReadAt copies guest memory at guest-physical address addr into p. It copies
// all of p or nothing.
func (g *Guest) ReadAt(p []byte, addr int64) (int, error) {
	s, err := g.Slice(uint64(addr), uint64(len(p)))
	if err != nil {
		return 0, err
	}
	return copy(p, s), nil
}

// WriteAt copies p into guest memory at guest-physical address addr. It
// copies all of p or nothing.
func (g *Guest) WriteAt(p []byte, addr int64) (int, error) {
	s, err := g.Slice(uint64(addr), uint64(len(p)))
	if err != nil {
		return 0, err
	}
	return copy(s, p), nil
}

var (
	_ io.ReaderAt = (*Guest)(nil)
	_ io.WriterAt = (*Guest)(nil)
)

// Uint16 loads the little-endian 16-bit value at addr.
func (g *Guest) Uint16(addr uint64) (uint16, error) {
	s, err := g.Slice(addr, 2)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint16(s), nil
}

// Uint32 loads the little-endian 32-bit value at addr.
func (g *Guest) Uint32(addr uint64) (uint32, error) {
	s, err := g.Slice(addr, 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(s), nil
}

// Uint64 loads the little-endian 64-bit value at addr.
func (g *Guest) Uint64(addr uint64) (uint64, error) {
	s, err := g.Slice(addr, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(s), nil
}

// PutUint16 stores v at addr, little-endian.
func (g *Guest) PutUint16(addr uint64, v uint16) error {
	s, err := g.Slice(addr, 2)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(s, v)
	return nil
}

// PutUint32 stores v at addr, little-endian.
func (g *Guest) PutUint32(addr uint64, v uint32) error {
	s, err := g.Slice(addr, 4)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(s, v)
	return nil
}

// PutUint64 stores v at addr, little-endian.
func (g *Guest) PutUint64(addr uint64, v uint64) error {
	s, err := g.Slice(addr, 8)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(s, v)
	return nil
}

// Regions are the pieces of RAM in ascending order. The caller must not
// change them.
func (g *Guest) Regions() []Region { return g.regions }

// Size is the amount of RAM, in bytes.
func (g *Guest) Size() uint64 {
	var n uint64
	for i := range g.regions {
		n += g.regions[i].Size
	}
	return n
}
