// Package qcow2 reads disk images of QEMU's format: versions 2 and 3, compressed or
// not, with subclusters or without, that stand alone. The format is described in
// QEMU's docs/interop/qcow2.txt, whose terms are used here.
//
// A reader keeps no tables: it reads the entries that it needs, which are in the
// host's page cache when they are needed again. So the memory that it takes does not
// depend on what the image says of itself: see Slots.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// Image is a qcow2 image, for reading. Its methods may be called concurrently.
type Image struct {
	header
	file  io.ReaderAt
	slots [Slots]slot
}

// Open reads the header of an image in a file of the given size, in bytes.
func Open(file io.ReaderAt, size int64) (*Image, error) {
	h, err := readHeader(file, size)
	if err != nil {
		return nil, fmt.Errorf("qcow2: %w", err)
	}
	return &Image{header: h, file: file}, nil
}

// Size is the size of the disk, in bytes.
func (im *Image) Size() int64 { return im.size }

// ReadAt reads the disk, as io.ReaderAt has it. What the image has nothing for is
// zero; what it says is in the file, and is not, is an error.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		if off < 0 || off >= im.size {
			return done, io.EOF
		}
		part := p[done:]
		part = part[:min(int64(len(part)), im.size-off)]
		n, err := im.read(part, off)
		if err != nil {
			return done, fmt.Errorf("qcow2: at %d of the disk: %w", off, err)
		}
		done += n
		off += int64(n)
	}
	return done, nil
}

// read reads from the front of p, and returns how much that was.
func (im *Image) read(p []byte, off int64) (int, error) {
	e, err := im.lookup(off, len(p))
	if err != nil {
		return 0, err
	}
	p = p[:e.n]
	switch e.kind {
	case data:
		return len(p), im.fill(p, e.at)
	case compressed:
		return len(p), im.inflate(p, e, off&(im.clusterSize()-1))
	default:
		clear(p)
		return len(p), nil
	}
}

// fill fills p from the file.
func (im *Image) fill(p []byte, at int64) error {
	n, err := im.file.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF || err == nil:
		return fmt.Errorf("it needs %d bytes at %d of the file, which has fewer: the image is cut short", len(p), at)
	}
	return err
}

func (im *Image) clusterSize() int64 { return 1 << im.clusterBits }

// kind is how a part of the disk is kept.
type kind byte

const (
	zero kind = iota
	data
	compressed
)

// extent is a part of the disk that is kept in one way: n bytes from where it was
// looked up.
type extent struct {
	kind kind
	at   int64 // in the file: of these bytes or, compressed, of their cluster
	n    int
	size int64 // of the compressed cluster, in the file, at the most
}

// Entries of tables.
const (
	entrySize         = 8
	extendedEntrySize = 16

	entryOffset     = 0x00ff_ffff_ffff_fe00 // in the file
	entryZero       = 1 << 0
	entryCompressed = 1 << 62

	subclusters     = 32
	minExtendedBits = 14

	// maxEntries is how many entries are read at a time.
	maxEntries = 64
)

// lookup finds where the disk's bytes from off on are kept, up to n of them: all that
// are kept in one way and, as data, in one place.
func (im *Image) lookup(off int64, n int) (extent, error) {
	cluster := off >> im.clusterBits
	l2, err := im.table(cluster >> im.l2Bits())
	if err != nil {
		return extent{}, err
	}
	// The entries that matter: no more than the table has from here on.
	index := cluster & (1<<im.l2Bits() - 1)
	inside := int(off & (im.clusterSize() - 1))
	count := min((int64(inside)+int64(n)-1)>>im.clusterBits+1, 1<<im.l2Bits()-index, maxEntries)
	n = min(n, int(count<<im.clusterBits)-inside)
	if l2 == 0 {
		return extent{kind: zero, n: n}, nil
	}
	size := int64(entrySize)
	if im.extended {
		size = extendedEntrySize
	}
	var buf [maxEntries * extendedEntrySize]byte
	entries := buf[:count*size]
	if err := im.fill(entries, l2+index*size); err != nil {
		return extent{}, err
	}
	e, err := im.extent(entries[:size], inside, n)
	// Data often goes on in the next cluster of the file.
	for i := size; err == nil && e.n < n && i < int64(len(entries)) && e.kind != compressed; i += size {
		if (e.n+inside)&int(im.clusterSize()-1) != 0 {
			break
		}
		next, err := im.extent(entries[i:i+size], 0, n-e.n)
		if err != nil || next.kind != e.kind || e.kind == data && next.at != e.at+int64(e.n) {
			break // an error comes back when its own bytes are read
		}
		e.n += next.n
	}
	return e, err
}

// table finds the second table with a number: 0 for none.
func (im *Image) table(i int64) (int64, error) {
	var b [entrySize]byte
	if err := im.fill(b[:], im.l1+entrySize*i); err != nil {
		return 0, err
	}
	return im.clusterAt(binary.BigEndian.Uint64(b[:]))
}

// clusterAt is the place of a cluster in the file that an entry tells.
func (im *Image) clusterAt(entry uint64) (int64, error) {
	at := entry & entryOffset
	if at&uint64(im.clusterSize()-1) != 0 {
		return 0, fmt.Errorf("an entry points to %#x of the file, inside a cluster: the image is damaged", at)
	}
	return int64(at), nil
}

// extent is what an entry of a second table says of up to n bytes that begin inside
// its cluster.
func (im *Image) extent(entry []byte, inside, n int) (extent, error) {
	e := binary.BigEndian.Uint64(entry)
	n = min(n, int(im.clusterSize())-inside)
	if e&entryCompressed != 0 {
		return im.compressedExtent(e, n), nil
	}
	at, err := im.clusterAt(e)
	switch {
	case err != nil:
		return extent{}, err
	case im.extended:
		return im.subclusterExtent(at, binary.BigEndian.Uint64(entry[entrySize:]), inside, n)
	case e&entryZero != 0 && im.version < 3:
		return extent{}, errors.New("a cluster of zeros, which version 2 does not have: the image is damaged")
	case e&entryZero != 0 || at == 0:
		return extent{kind: zero, n: n}, nil
	}
	return extent{kind: data, at: at + int64(inside), n: n}, nil
}

// subclusterExtent is what a bitmap says of a cluster at a place in the file: a bit
// for each subcluster that is there, and in its upper half one for each that is zero.
func (im *Image) subclusterExtent(at int64, bitmap uint64, inside, n int) (extent, error) {
	there, zeros := uint32(bitmap), uint32(bitmap>>32)
	if there&zeros != 0 || at == 0 && there != 0 {
		return extent{}, fmt.Errorf("subclusters %#x that are both there and not: the image is damaged", bitmap)
	}
	size := int(im.clusterSize()) / subclusters
	first := inside / size
	e := extent{kind: zero}
	run := bits.TrailingZeros32(there >> first)
	if there>>first&1 != 0 {
		e = extent{kind: data, at: at + int64(inside)}
		run = bits.TrailingZeros32(^(there >> first))
	}
	e.n = min(n, min(first+run, subclusters)*size-inside)
	return e, nil
}
