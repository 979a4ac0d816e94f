package boot

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"

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

// checked reports whether data that are compressed with c, as Linux does it, have
// a checksum of what comes out.
func (c Compression) checked() bool {
	return c != Uncompressed && c != LZMA && c != LZ4
}

// program is the name of the program that unpacks c.
func (c Compression) program() string {
	if c == LZO {
		return "lzop"
	}
	return c.String()
}

// magics are how compressed data begins, as in Linux's lib/decompress.c.
var magics = []struct {
	magic       string
	compression Compression
}{
	{"\x1f\x8b", Gzip},
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
func decompressor(c Compression, r io.Reader) (io.ReadCloser, error) {
	var unpacked io.Reader
	var err error
	switch c {
	case Uncompressed:
		unpacked = r
	case Gzip:
		return gzip.NewReader(r)
	case Bzip2:
		unpacked = bzip2.NewReader(r)
	case LZMA:
		unpacked, err = lzma.ReaderConfig{DictCap: maxWindow}.NewReader(r)
	case XZ:
		unpacked, err = xz.NewReader(r, maxWindow)
	case LZO:
		unpacked, err = newLzopReader(r)
	case LZ4:
		unpacked = lz4.NewReader(r)
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(unpacked), err
}
