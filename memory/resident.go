package memory

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Bits of an entry of /proc/PID/pagemap. Documentation/admin-guide/mm/pagemap.rst.
const (
	pagemapPresent = 1 << 63
	pagemapSwapped = 1 << 62
	pagemapEntry   = 8 // bytes
)

// Resident counts, for each piece of cell bytes of the RAM from start on, size
// bytes of it, how many of its pages have memory of the host's behind them: those
// that the guest, a device or the boot loader has touched, since the start or since
// they were given back. The last piece may be shorter. All are multiples of
// PageSize, and of one region. pagemap is /proc/self/pagemap.
func (g *Guest) Resident(pagemap io.ReaderAt, start, size, cell uint64) ([]uint32, error) {
	if cell == 0 || start%PageSize != 0 || size%PageSize != 0 || cell%PageSize != 0 {
		return nil, fmt.Errorf("guest memory: %#x+%#x in cells of %#x are not whole pages", start, size, cell)
	}
	var host uint64
	for i := range g.regions {
		if r := &g.regions[i]; r.Contains(start, size) {
			host = uint64(r.HostAddr()) + start - r.Start
		}
	}
	if host == 0 {
		return nil, &RangeError{start, size}
	}
	counts := make([]uint32, (size+cell-1)/cell)
	err := eachTouched(pagemap, uintptr(host), size/PageSize, func(page uint64, touched bool) {
		if touched {
			counts[page*PageSize/cell]++
		}
	})
	return counts, err
}

// eachTouched says of each of the pages from an address in this process on whether
// there is memory of the host's behind it.
func eachTouched(pagemap io.ReaderAt, host uintptr, pages uint64, say func(page uint64, touched bool)) error {
	buffer := make([]byte, 64<<10)
	for page := uint64(0); page < pages; {
		part := buffer[:min(uint64(len(buffer)), (pages-page)*pagemapEntry)]
		if _, err := pagemap.ReadAt(part, int64((uint64(host)/PageSize+page)*pagemapEntry)); err != nil {
			return fmt.Errorf("/proc/self/pagemap: %w", err)
		}
		for ; len(part) > 0; part = part[pagemapEntry:] {
			say(page, binary.LittleEndian.Uint64(part)&(pagemapPresent|pagemapSwapped) != 0)
			page++
		}
	}
	return nil
}
