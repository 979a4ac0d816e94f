package boot

import (
	"fmt"
	"io"
	"os"

	"vmm/memory"
)

// Initrd is an initial RAM disk: a file of Size bytes.
type Initrd struct {
	Name string
	Data io.ReaderAt
	Size int64
	// Sealed holds the same, in a form that [memory.Guest.MapFile] takes, for
	// Load to map; nil for none.
	Sealed *os.File

	module bool // it is no initrd, in messages
}

// Module is a file that a Multiboot or PVH kernel gets besides the initrd: the
// kernel of Xen's first domain, say.
type Module struct {
	Initrd
	// Args are words that the kernel gets with it.
	Args string
}

// Placed is a module, or the initrd, in guest memory.
type Placed struct {
	memory.Range
	Args string
}

// wanted is what the file should be.
func (d *Initrd) wanted() string {
	if d.module {
		return "another"
	}
	return "a cpio archive"
}

// kind is what the file is to the user.
func (d *Initrd) kind() string {
	if d.module {
		return "module"
	}
	return "initrd"
}

// The highest address of an initrd's last byte, for images that do not say:
// what the setup headers of 64-bit and of 32-bit Linux say.
// arch/x86/boot/header.S, initrd_addr_max.
const (
	initrdMax64 = 0x7fff_ffff
	initrdMax32 = 0x37ff_ffff
)

// place chooses where the initrd goes: as high as possible in low RAM, so that
// the kernel has the most room below; page-aligned, no byte above last, none
// below floor, where the kernel ends.
func (d *Initrd) place(mem *memory.Guest, floor, last uint64) (memory.Range, error) {
	if d == nil {
		return memory.Range{}, nil
	}
	if d.Size <= 0 {
		return memory.Range{}, fmt.Errorf("%s %s: the file is empty; give %s, or no --%[1]s", d.kind(), d.Name, d.wanted())
	}
	size := uint64(d.Size)
	ram := lowRAM(mem)
	end := min(ram.End(), last+1)
	floor = pageUp(max(floor, ram.Start))
	if size > end || (end-size)&^(memory.PageSize-1) < floor {
		need := floor + pageUp(size)
		if limit := min(last+1, memory.HoleStart); need > limit {
			return memory.Range{}, fmt.Errorf("%s %s: %d bytes do not fit between the kernel's end at %#x and %#x, below which the kernel wants all of it; make it smaller", d.kind(), d.Name, size, floor, limit)
		}
		return memory.Range{}, fmt.Errorf("%s %s: %d bytes do not fit beside the kernel; choose --memory %dM or more", d.kind(), d.Name, size, mebibytes(need))
	}
	return memory.Range{Start: (end - size) &^ (memory.PageSize - 1), Size: size}, nil
}

// addInitrd is to put an initrd, if there is one, to where place said.
func (f *filler) addInitrd(d *Initrd, to memory.Range) error {
	if d == nil {
		return nil
	}
	return f.add(to.Start, d.Data, d.Sealed, 0, to.Size, func(err error) error {
		return fmt.Errorf("%s %s: %w", d.kind(), d.Name, err)
	})
}

func pageUp(n uint64) uint64 { return (n + memory.PageSize - 1) &^ (memory.PageSize - 1) }
