package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"

	lzo "github.com/anchore/go-lzo"
)

// lzopMagic begins a file of the program lzop, the container around LZO that
// Linux uses.
const lzopMagic = "\x89LZO\x00\x0d\x0a\x1a\x0a"

// Flags of an lzop header: which checksums follow the sizes of a block.
const (
	lzopAdler32D  = 1 << 0 // of the data
	lzopAdler32C  = 1 << 1 // of the compressed data
	lzopExtra     = 1 << 6
	lzopCRC32D    = 1 << 8
	lzopCRC32C    = 1 << 9
	lzopFilter    = 1 << 11
	lzopUnhandled = lzopExtra | lzopFilter
)

// lzopMaxBlock is the largest block, in bytes: LZO_BLOCK_SIZE of Linux's
// lib/decompress_unlzo.c.
const lzopMaxBlock = 256 << 10

// lzopReader reads lzop's container: a header, then blocks with their sizes
// and checksums. Those of the data are checked, which Linux does not do.
type lzopReader struct {
	r     io.Reader
	flags uint32
	block []byte // what is left of the last block
}

// newLzopReader reads the header: magic, version (2), library version (2),
// version needed (2), method, level, flags (4), mode (4), times (8), length of
// the name, name, checksum (4). Numbers are big-endian.
func newLzopReader(r io.Reader) (*lzopReader, error) {
	const flags = len(lzopMagic) + 2 + 2 + 2 + 1 + 1
	head := make([]byte, flags+4+4+8+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("lzop header: %w", err)
	}
	l := &lzopReader{r: r, flags: binary.BigEndian.Uint32(head[flags:])}
	if l.flags&lzopUnhandled != 0 {
		return nil, fmt.Errorf("lzop header: flags %#x are not handled", l.flags)
	}
	return l, l.skip(int64(head[len(head)-1]) + 4)
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
	sums := make([]byte, l.sums(lzopAdler32D, lzopCRC32D))
	if _, err := io.ReadFull(l.r, sums); err != nil {
		return noEOF(err)
	}
	if packed < size {
		if err := l.skip(l.sums(lzopAdler32C, lzopCRC32C)); err != nil {
			return err
		}
	}
	data := make([]byte, packed)
	if _, err := io.ReadFull(l.r, data); err != nil {
		return noEOF(err)
	}
	if packed < size {
		packed := data
		data = make([]byte, size)
		n, err := lzo.Decompress(packed, data)
		if err != nil {
			return err
		}
		if n != int(size) {
			return errors.New("lzop: a block is shorter than it says")
		}
	}
	var want []byte
	if l.flags&lzopAdler32D != 0 {
		want = binary.BigEndian.AppendUint32(want, adler32.Checksum(data))
	}
	if l.flags&lzopCRC32D != 0 {
		want = binary.BigEndian.AppendUint32(want, crc32.ChecksumIEEE(data))
	}
	if !bytes.Equal(sums, want) {
		return errors.New("lzop: a block with a wrong checksum")
	}
	l.block = data
	return nil
}

// sums is the size in bytes of those checksums that the file has.
func (l *lzopReader) sums(flags ...uint32) int64 {
	n := int64(0)
	for _, f := range flags {
		if l.flags&f != 0 {
			n += 4
		}
	}
	return n
}

func (l *lzopReader) skip(n int64) error {
	_, err := io.CopyN(io.Discard, l.r, n)
	return noEOF(err)
}

func (l *lzopReader) uint32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(l.r, b[:])
	return binary.BigEndian.Uint32(b[:]), noEOF(err)
}

// noEOF is err where the end of the file is too early.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
