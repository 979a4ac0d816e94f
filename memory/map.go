package memory

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Options say how the host backs guest RAM.
type Options struct {
	// HugePages takes RAM from the host's pool of 2 MiB pages
	// (/proc/sys/vm/nr_hugepages), all of it reserved at once, instead of
	// ordinary pages that the host commits as the guest touches them.
	HugePages bool
	// Transparent says whether ordinary pages may be huge ones nevertheless.
	Transparent Transparent
	// Prefault takes all memory from the host at once.
	Prefault bool
	// File holds what RAM begins with, as [Guest.Save] writes it; nil for zeros.
	// Its pages are the host's page cache, shared with whoever maps them too,
	// until the guest writes to them and gets a copy of its own. Nothing is read
	// before it is touched. Nobody may write to the file or shorten it while the
	// guest lives.
	File *os.File
}

// Transparent says what the host may do about transparent huge pages. They save
// most of the faults of a guest that starts, and one touched byte then takes
// [HugePageSize].
type Transparent string

// Choices of transparent huge pages: madvise(2).
const (
	TransparentHost Transparent = "host" // /sys/kernel/mm/transparent_hugepage/enabled decides; "" too
	TransparentOn   Transparent = "on"   // MADV_HUGEPAGE
	TransparentOff  Transparent = "off"  // MADV_NOHUGEPAGE
)

// HugePageSize is the granule of a mapping with Options.HugePages, in bytes.
const HugePageSize = 2 << 20

// ErrHugePages is wrapped by New's error when the host's pool of huge pages
// is too small.
var ErrHugePages = errors.New("not enough free huge pages")

// New maps RAM for a guest at the given ranges, which must be page-aligned,
// in ascending order and apart from each other. The memory reads as zero and
// costs the host nothing until it is touched. Close unmaps it.
func New(ranges []Range, opt Options) (*Guest, error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	page := uint64(PageSize)
	if opt.HugePages {
		// Without MAP_NORESERVE the kernel takes the pages now, so that a
		// pool too small is an error here and not a SIGBUS in the guest.
		flags |= unix.MAP_HUGETLB | unix.MAP_HUGE_2MB
		page = HugePageSize
	} else {
		flags |= unix.MAP_NORESERVE
	}
	if opt.File != nil && opt.HugePages {
		return nil, errors.New("guest memory: a file's pages are not the host's huge pages; leave one of the two out")
	}
	g := &Guest{whole: opt.HugePages || opt.Transparent == TransparentOff || opt.File != nil, file: opt.File}
	var end uint64
	var offset int64
	for _, r := range ranges {
		if r.Start < end || r.Size == 0 || r.Start%page != 0 || r.Size%page != 0 || r.End() < r.Start {
			g.Close()
			return nil, fmt.Errorf("guest memory: range %#x+%#x is not a whole number of %d-byte pages after %#x", r.Start, r.Size, page, end)
		}
		end = r.End()
		host, err := mapAligned(r.Size, flags)
		if err != nil {
			g.Close()
			if opt.HugePages && errors.Is(err, unix.ENOMEM) {
				return nil, fmt.Errorf("guest memory: %w for %d MiB; add %d to /proc/sys/vm/nr_hugepages, as root", ErrHugePages, r.Size>>20, r.Size/HugePageSize)
			}
			return nil, fmt.Errorf("guest memory: map %d MiB: %w", r.Size>>20, err)
		}
		g.regions = append(g.regions, Region{r, host})
		if opt.File != nil {
			if err := mapFile(host, opt.File, offset); err != nil {
				g.Close()
				return nil, fmt.Errorf("guest memory: map %s: %w", opt.File.Name(), err)
			}
			g.mapped.add(host)
			offset += int64(r.Size)
		}
		if err := opt.prepare(host); err != nil {
			g.Close()
			return nil, fmt.Errorf("guest memory: %d MiB: %w", r.Size>>20, err)
		}
	}
	return g, nil
}

// Fill says that n bytes at guest-physical address addr are about to be written,
// all of them: the host may as well take huge pages for them, which is several
// times as fast. It does nothing to RAM that is huge pages already, or never.
func (g *Guest) Fill(addr, n uint64) {
	for _, r := range g.regions {
		if !r.Contains(addr, n) || g.whole {
			continue
		}
		start := (addr - r.Start) &^ (HugePageSize - 1)
		end := min((addr-r.Start+n+HugePageSize-1)&^(HugePageSize-1), r.Size)
		// A host without them goes on as before.
		_ = unix.Madvise(r.host[start:end], unix.MADV_HUGEPAGE)
	}
}

// prepare does to new memory what the options ask for.
func (o Options) prepare(host []byte) error {
	advice := map[Transparent]int{TransparentOn: unix.MADV_HUGEPAGE, TransparentOff: unix.MADV_NOHUGEPAGE}
	if a, ok := advice[o.Transparent]; ok && !o.HugePages {
		err := unix.Madvise(host, a)
		if err != nil && (o.Transparent == TransparentOn || err != unix.EINVAL) { // EINVAL: this host has none
			return fmt.Errorf("transparent huge pages: %w", err)
		}
	}
	if o.Prefault {
		err := unix.Madvise(host, unix.MADV_POPULATE_WRITE)
		if errors.Is(err, unix.EINVAL) { // before Linux 5.14
			for at := 0; at < len(host); at += PageSize {
				host[at] = 0
			}
			err = nil
		}
		if err != nil {
			return fmt.Errorf("prefault: %w", err)
		}
	}
	return nil
}

// Close unmaps the guest's RAM. No vCPU may be running on it any more, and no
// slice of it may be used afterwards.
func (g *Guest) Close() error {
	var first error
	for _, r := range g.regions {
		if err := unmap(r.host); err != nil && first == nil {
			first = fmt.Errorf("guest memory: unmap %#x+%#x: %w", r.Start, r.Size, err)
		}
	}
	g.regions = nil
	return first
}
