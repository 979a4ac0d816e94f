package qcow2

import (
	"bufio"

	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// Slots is how many compressed clusters an image keeps unpacked. Each takes up to
// the largest cluster, of 2 MiB, and the decoder's window, of the same size, once an
// image has that large clusters.
const Slots = 4

const (
	// maxWindow is how far a zstd frame may look back: the largest cluster.
	maxWindow = 1 << maxClusterBits
	// inputSize is how much of a compressed cluster is read at a time.
	inputSize = 16 << 10

	sectorSize = 512
)

// slot holds a compressed cluster, unpacked.
type slot struct {
	mu       sync.Mutex
	at       int64 // of the cluster in the file, when valid
	valid    bool
	contents []byte
	input    *bufio.Reader
	deflate  io.ReadCloser
	zstd     *zstd.Decoder
}

// compressedExtent is what an entry says of a compressed cluster: where it begins, at
// any byte, and in how many further sectors of the file it goes on. It ends somewhere
// in the last.
func (im *Image) compressedExtent(entry uint64, n int) extent {
	sizeBits := im.clusterBits - 8
	offsetBits := 62 - sizeBits
	at := int64(entry & (1<<offsetBits - 1))
	more := int64(entry >> offsetBits & (1<<sizeBits - 1))
	return extent{kind: compressed, at: at, n: n, size: (more+1)*sectorSize - at%sectorSize}
}

// inflate reads the bytes of a compressed cluster that begin inside it.
func (im *Image) inflate(p []byte, e extent, inside int64) error {
	s := &im.slots[uint64(e.at/sectorSize)%Slots]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.valid || s.at != e.at {
		s.valid = false
		if err := im.unpack(s, e); err != nil {
			return fmt.Errorf("a compressed cluster at %d of the file: %w", e.at, err)
		}
		s.at, s.valid = e.at, true
	}
	copy(p, s.contents[inside:])
	return nil
}

// unpack unpacks a cluster. What follows it in its last sector is another's.
func (im *Image) unpack(s *slot, e extent) error {
	if s.contents == nil {
		s.contents = make([]byte, im.clusterSize())
		s.input = bufio.NewReaderSize(nil, inputSize)
	}
	s.input.Reset(io.NewSectionReader(im.file, e.at, e.size))
	from, err := im.decoder(s)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(from, s.contents); err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early: the image is damaged or cut short")
	} else if err != nil {
		return err
	}
	return nil
}

// decoder returns what unpacks a slot's input.
func (im *Image) decoder(s *slot) (io.Reader, error) {
	if im.compression == compressionDeflate {
		if s.deflate == nil {
			s.deflate = flate.NewReader(s.input)
			return s.deflate, nil
		}
		return s.deflate, s.deflate.(flate.Resetter).Reset(s.input, nil)
	}
	if s.zstd == nil {
		var err error
		s.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
	}
	return s.zstd, s.zstd.Reset(s.input)
}

// Close lets go of the decoders. The file is the caller's.
func (im *Image) Close() {
	for i := range im.slots {
		if d := im.slots[i].zstd; d != nil {
			d.Close()
		}
	}
}
