package boot

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	lzo "github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Compression is a way in which kernels and initrds are compressed.
type Compression uint8

// The compressions that Linux builds kernels with.
const (
	Uncompressed Compression = iota
	Gzip
	Bzip2
	LZMA
	XZ
	LZO
	LZ4
	Zstd
)

var compressionNames = [...]string{"none", "gzip", "bzip2", "lzma", "xz", "lzo", "lz4", "zstd"}

func (c Compression) String() string { return compressionNames[c] }

// MarshalText makes a Compression its name in JSON.
func (c Compression) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// magics are how compressed data begins. Documentation of the kernel's
// lib/decompress.c.
var magics = []struct {
	magic       string
	compression Compression
}{
	{"\x1f\x8b", Gzip},
	{"\x1f\x9e", Gzip}, // an old variant of the same
	{"BZh", Bzip2},
	{"\x5d\x00\x00", LZMA},
	{"\xfd7zXZ\x00", XZ},
	{lzopMagic, LZO},
	{"\x02\x21\x4c\x18", LZ4}, // the legacy frame, the only one Linux reads
	{"\x28\xb5\x2f\xfd", Zstd},
}

// detectCompression tells how data is compressed from its first bytes.
func detectCompression(head []byte) Compression {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.compression
		}
	}
	return Uncompressed
}

// maxWindow bounds the memory that a decompressor may take for looking back,
// in bytes. Kernels are compressed with 128 MiB at most (zstd --ultra -22).
const maxWindow = 128 << 20

// decompressor returns a reader of the decompressed data.
func decompressor(c Compression, r io.Reader) (io.Reader, error) {
	switch c {
	case Gzip:
		return gzip.NewReader(r)
	case Bzip2:
		return bzip2.NewReader(r), nil
	case LZMA:
		return lzma.ReaderConfig{DictCap: maxWindow}.NewReader(r)
	case XZ:
		return xz.NewReader(r, maxWindow)
	case LZO:
		return newLzopReader(r)
	case LZ4:
		return lz4.NewReader(r), nil
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return r, nil
}

// lzopMagic begins a file of the program lzop, the container around LZO that
// Linux uses.
const lzopMagic = "\x89LZO\x00\x0d\x0a\x1a\x0a"

// lzopReader reads lzop's container: a header, then blocks with their sizes
// and checksums. The checksums are not checked, as Linux does not.
type lzopReader struct {
	r     io.Reader
	flags uint32
	block []byte // what is left of the last block
}

// Flags of an lzop header: which checksums follow the sizes of a block.
const (
	lzopAdler32D  = 1 << 0 // of the data
	lzopAdler32C  = 1 << 1 // of the compressed data
	lzopCRC32D    = 1 << 8
	lzopCRC32C    = 1 << 9
	lzopExtra     = 1 << 6
	lzopFilter    = 1 << 11
	lzopMaxBlock  = 64 << 20
	lzopUnhandled = lzopExtra | lzopFilter
)

// newLzopReader reads the header: magic, version (2), library version (2),
// version needed (2), method, level, flags (4), mode (4), times (8), name,
// checksum (4). Numbers are big-endian.
func newLzopReader(r io.Reader) (*lzopReader, error) {
	head := make([]byte, len(lzopMagic)+6+2+4+4+8+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("lzop header: %w", err)
	}
	l := &lzopReader{r: r, flags: binary.BigEndian.Uint32(head[17:])}
	if l.flags&lzopUnhandled != 0 {
		return nil, fmt.Errorf("lzop header: flags %#x are not handled", l.flags)
	}
	_, err := io.CopyN(io.Discard, r, int64(head[len(head)-1])+4)
	return l, err
}

func (l *lzopReader) Read(p []byte) (int, error) {
	for len(l.block) == 0 {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.block)
	l.block = l.block[n:]
	return n, nil
}

// next reads a block. A size of zero is the end.
func (l *lzopReader) next() error {
	size, err := l.uint32()
	if err != nil {
		return err
	}
	if size == 0 {
		return io.EOF
	}
	packed, err := l.uint32()
	if err != nil {
		return err
	}
	if size > lzopMaxBlock || packed > size {
		return fmt.Errorf("lzop: a block of %d bytes, %d packed", size, packed)
	}
	sums := 0
	for _, flag := range []uint32{lzopAdler32D, lzopCRC32D} {
		if l.flags&flag != 0 {
			sums += 4
		}
	}
	if packed < size {
		for _, flag := range []uint32{lzopAdler32C, lzopCRC32C} {
			if l.flags&flag != 0 {
				sums += 4
			}
		}
	}
	if _, err := io.CopyN(io.Discard, l.r, int64(sums)); err != nil {
		return err
	}
	// The packed bytes arrive before their unpacked size is believed.
	var data bytes.Buffer
	if _, err := io.CopyN(&data, l.r, int64(packed)); err != nil {
		return err
	}
	if packed == size { // stored
		l.block = data.Bytes()
		return nil
	}
	l.block = make([]byte, size)
	n, err := lzo.Decompress(data.Bytes(), l.block)
	if err != nil {
		return err
	}
	if n != int(size) {
		return errors.New("lzop: a block is shorter than it says")
	}
	return nil
}

func (l *lzopReader) uint32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(l.r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}
