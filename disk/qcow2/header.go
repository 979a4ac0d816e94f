package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Header lengths, in bytes: of version 2, and the least of version 3.
const (
	headerV2 = 72
	headerV3 = 104
)

// Incompatible features, which a reader must know. All but the first two change how
// the image is read; those say that it was not closed in order, and that it is
// damaged, of which whoever writes to it must know.
const (
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4

	featuresKnown = featureDirty | featureCorrupt | featureCompression | featureExtendedL2
)

// Compression types.
const (
	compressionDeflate = 0
	compressionZstd    = 1
)

// Limits of the format, and of QEMU on the first table: 32 MiB of it.
const (
	minClusterBits   = 9
	maxClusterBits   = 21
	maxRefcountOrder = 6
	maxL1            = 32 << 20 / entrySize
)

// header is what an image says of itself, checked.
type header struct {
	version     uint32
	clusterBits uint
	size        int64 // of the disk
	l1          int64 // where the first table begins
	l1Size      uint64
	extended    bool // second tables have entries of 16 bytes
	compression byte
}

// readHeader reads and checks the header of an image in a file of fileSize bytes.
// What a reader does not need, the tables of reference counts and snapshots, it does
// not look at.
func readHeader(file io.ReaderAt, fileSize int64) (h header, err error) {
	var b [headerV3 + 8]byte
	n, err := file.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return h, err
	}
	be := binary.BigEndian
	if n < 8 || string(b[:4]) != "QFI\xfb" {
		return h, errors.New("it is not a qcow2 image")
	}
	h.version = be.Uint32(b[4:])
	switch {
	case h.version != 2 && h.version != 3:
		return h, fmt.Errorf("version %d: vmm reads 2 and 3", h.version)
	case n < headerV2 || h.version == 3 && n < headerV3:
		return h, errors.New("it ends inside its header: the image is cut short")
	}
	size, l1 := be.Uint64(b[24:]), be.Uint64(b[40:])
	h.clusterBits, h.l1Size = uint(be.Uint32(b[20:])), uint64(be.Uint32(b[36:]))
	switch {
	case be.Uint64(b[8:]) != 0:
		return h, errors.New("it is based on another image; make it stand alone: qemu-img convert -O qcow2 FILE FILE.qcow2")
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return h, fmt.Errorf("clusters of 2^%d bytes: the format has 2^%d to 2^%d", h.clusterBits, minClusterBits, maxClusterBits)
	case be.Uint32(b[32:]) != 0:
		return h, errors.New("it is encrypted, which vmm does not read; qemu-img convert can write a copy that is not")
	case size > math.MaxInt64:
		return h, fmt.Errorf("a disk of %d bytes: the image is damaged", size)
	}
	h.size = int64(size)
	if h.version == 3 {
		if err := h.features(b[:n]); err != nil {
			return h, err
		}
	}
	return h, h.checkL1(l1, uint64(fileSize))
}

// features reads what version 3 has added.
func (h *header) features(b []byte) error {
	be := binary.BigEndian
	features, order, length := be.Uint64(b[72:]), be.Uint32(b[96:]), be.Uint32(b[100:])
	switch {
	case features&featureDataFile != 0:
		return errors.New("its data is in another file; make it stand alone: qemu-img convert -O qcow2 FILE FILE.qcow2")
	case features&^featuresKnown != 0:
		return fmt.Errorf("it uses features that vmm does not know: %s", bitNames(features&^featuresKnown))
	case order > maxRefcountOrder:
		return fmt.Errorf("reference counts of 2^%d bits: the image is damaged", order)
	case length < headerV3 || length%8 != 0 || length > 1<<h.clusterBits:
		return fmt.Errorf("a header of %d bytes: the image is damaged", length)
	}
	if length > headerV3 && len(b) > headerV3 {
		h.compression = b[headerV3]
	}
	// The feature says that the type is there, and not the one of old.
	if features&featureCompression != 0 != (h.compression != compressionDeflate) || h.compression > compressionZstd {
		return fmt.Errorf("compression type %d: vmm reads %d (zlib) and %d (zstd)", h.compression, compressionDeflate, compressionZstd)
	}
	h.extended = features&featureExtendedL2 != 0
	if h.extended && h.clusterBits < minExtendedBits {
		return fmt.Errorf("subclusters in clusters of 2^%d bytes: the image is damaged", h.clusterBits)
	}
	return nil
}

// checkL1 checks the first table: as large as the disk needs, and in the file.
func (h *header) checkL1(offset, fileSize uint64) error {
	perTable := uint64(1) << (h.clusterBits + h.l2Bits()) // bytes of the disk
	needed := uint64(h.size)/perTable + min(uint64(h.size)%perTable, 1)
	switch {
	case h.l1Size > maxL1 || needed > maxL1:
		return fmt.Errorf("its first table has %d entries, of %d that it may have", max(h.l1Size, needed), maxL1)
	case needed > h.l1Size:
		return fmt.Errorf("its first table has %d entries, where a disk of %d bytes needs %d: the image is damaged", h.l1Size, h.size, needed)
	case offset%(1<<h.clusterBits) != 0:
		return fmt.Errorf("its first table is at %#x, inside a cluster: the image is damaged", offset)
	case offset > fileSize || h.l1Size*entrySize > fileSize-offset:
		return errors.New("its first table lies outside the file: the image is damaged or cut short")
	}
	h.l1 = int64(offset)
	return nil
}

// l2Bits is the binary logarithm of the number of entries of a second table, which
// fills a cluster.
func (h *header) l2Bits() uint {
	if h.extended {
		return h.clusterBits - 4
	}
	return h.clusterBits - 3
}

// bitNames names bits by number.
func bitNames(set uint64) string {
	var names []string
	for i := range 64 {
		if set>>i&1 != 0 {
			names = append(names, fmt.Sprintf("bit %d", i))
		}
	}
	return strings.Join(names, ", ")
}
