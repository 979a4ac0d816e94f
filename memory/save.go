package memory

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ChunkSize is how much of a saved memory has a checksum of its own, in bytes. The last
// chunk may be shorter.
const ChunkSize = 2 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the checksum of a chunk: CRC-32C.
func Sum(chunk []byte) uint32 { return crc32.Checksum(chunk, castagnoli) }

var zeroPage [PageSize]byte

// Save writes RAM to an empty file, region behind region, and returns the checksums of
// its chunks. Pages of zeros, among them those that nobody has touched, are holes.
// Neither the guest nor a device may be at work.
// pagemap is /proc/self/pagemap.
func (g *Guest) Save(f *os.File, pagemap io.ReaderAt) ([]uint32, error) {
	if err := f.Truncate(int64(g.Size())); err != nil {
		return nil, err
	}
	s := saver{guest: g, file: f, pagemap: pagemap}
	for i := range g.regions {
		if err := s.region(&g.regions[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return s.sums, nil
}

// saver writes RAM to a file.
type saver struct {
	guest   *Guest
	pagemap io.ReaderAt
	file    *os.File
	offset  int64 // in the file, of the region
	sums    []uint32
}

func (s *saver) region(r *Region) error {
	touched := make([]bool, r.Size/PageSize)
	if err := eachTouched(s.pagemap, r.HostAddr(), uint64(len(touched)), func(page uint64, is bool) { touched[page] = is }); err != nil {
		return err
	}
	for at := uint64(0); at < r.Size; at += ChunkSize {
		end := min(at+ChunkSize, r.Size)
		pages := touched[at/PageSize : end/PageSize]
		if s.fromFile(r.host[at:end], s.offset+int64(at)) {
			for i := range pages {
				pages[i] = true
			}
		}
		if err := s.chunk(r.host[at:end], pages, s.offset+int64(at)); err != nil {
			return err
		}
	}
	s.offset += int64(r.Size)
	return nil
}

// fromFile reports whether there may be something in a chunk that comes from a file:
// it shows in no page table before it is touched.
func (s *saver) fromFile(host []byte, offset int64) bool {
	if !s.guest.mapped.overlap(host) {
		return false
	}
	if s.guest.file == nil {
		return true
	}
	data, err := unix.Seek(int(s.guest.file.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // there is no more
		return false
	}
	return err != nil || data < offset+int64(len(host))
}

// chunk writes the pages that are not zero of those that are touched.
func (s *saver) chunk(host []byte, touched []bool, offset int64) error {
	sum, start := uint32(0), -1
	for i := 0; i <= len(touched); i++ {
		full := false
		if i < len(touched) {
			page := zeroPage[:]
			if touched[i] {
				page = host[i*PageSize:][:PageSize]
				full = !bytes.Equal(page, zeroPage[:])
			}
			sum = crc32.Update(sum, castagnoli, page)
		}
		switch {
		case full && start < 0:
			start = i
		case !full && start >= 0:
			if _, err := s.file.WriteAt(host[start*PageSize:i*PageSize], offset+int64(start*PageSize)); err != nil {
				return err
			}
			start = -1
		}
	}
	s.sums = append(s.sums, sum)
	return nil
}
