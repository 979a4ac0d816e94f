package boot

import (
	"fmt"
	"io"

	"vmm/memory"
)

// Initrd is an initial RAM disk: a file of Size bytes.
type Initrd struct {
	Name string
	Data io.ReaderAt
	Size int64
}

// defaultInitrdMax is the highest address of an initrd's last byte for an
// image that does not say: what the bzImage header of an x86-64 kernel says.
const defaultInitrdMax = 0x7fff_ffff

// load puts the initrd as high as possible in low RAM, so that the kernel has
// the most room below: page-aligned, no byte above last, none below floor,
// where the kernel ends.
func (d *Initrd) load(mem *memory.Guest, floor, last uint64) (memory.Range, error) {
	if d == nil {
		return memory.Range{}, nil
	}
	if d.Size <= 0 {
		return memory.Range{}, fmt.Errorf("initrd %s: the file is empty", d.Name)
	}
	size := uint64(d.Size)
	ram := lowRAM(mem)
	end := min(ram.End(), last+1)
	floor = pageUp(max(floor, ram.Start))
	if size > end || (end-size)&^(memory.PageSize-1) < floor {
		const mib = 1 << 20
		need := pageUp(floor + pageUp(size))
		if need > last+1 || need > memory.HoleStart {
			return memory.Range{}, fmt.Errorf("initrd %s: %d MiB do not fit below %#x, where the kernel wants all of it", d.Name, size/mib, last+1)
		}
		return memory.Range{}, fmt.Errorf("initrd %s: %d bytes do not fit beside the kernel; choose --memory %dM or more", d.Name, size, (need+mib-1)/mib)
	}
	r := memory.Range{Start: (end - size) &^ (memory.PageSize - 1), Size: size}
	dst, err := mem.Slice(r.Start, r.Size)
	if err != nil {
		return memory.Range{}, err
	}
	if _, err := io.ReadFull(io.NewSectionReader(d.Data, 0, d.Size), dst); err != nil {
		return memory.Range{}, fmt.Errorf("initrd %s: %w", d.Name, err)
	}
	return r, nil
}

func pageUp(n uint64) uint64 { return (n + memory.PageSize - 1) &^ (memory.PageSize - 1) }
