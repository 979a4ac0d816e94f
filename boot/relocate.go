package boot

import (
	"errors"
	"fmt"
	"io"
)

// The relocation table of a 64-bit kernel lies behind its ELF file, put there by
// the build (arch/x86/tools/relocs.c) and used up by the code that unpacks the
// kernel in the guest (handle_relocations of arch/x86/boot/compressed/misc.c). It
// consists of 32-bit words, each the low half of a place's virtual address as
// linked:
//
//	0, places of 64-bit addresses
//	0, places of 32-bit offsets from which the slide is subtracted
//	0, places of 32-bit addresses, sign-extended
//
// The group in the middle was for variables of each processor. Linux 6.15 has
// done away with it.
type relocations struct {
	abs64, neg32, abs32 []byte
}

// maxRelocations bounds the size of a table, in bytes. Debian's largest kernel
// has 1 MiB.
const maxRelocations = 64 << 20

// relocationsSize is the size in bytes of what lies behind the ELF file; 0 where
// that is nothing.
func (img *Image) relocationsSize() int64 {
	if end := img.ELF.end; end > 0 && end < img.size {
		return img.size - end
	}
	return 0
}

// relocations reads the table.
func (img *Image) relocations() (relocations, error) {
	size := img.relocationsSize()
	if size == 0 {
		return relocations{}, nil
	}
	if size > maxRelocations {
		return relocations{}, img.errorf("its relocation table has %d MiB, and no kernel's has more than %d; the file is damaged, or use --kaslr=off", size>>20, maxRelocations>>20)
	}
	table := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(img.r, img.ELF.end, size), table); err != nil {
		return relocations{}, img.errorf("relocation table: %w", err)
	}
	r, err := parseRelocations(table)
	if err != nil {
		return relocations{}, img.errorf("relocation table: %w; the file is damaged, or use --kaslr=off", err)
	}
	return r, nil
}

// parseRelocations takes a table apart.
func parseRelocations(table []byte) (relocations, error) {
	if len(table)%4 != 0 {
		return relocations{}, fmt.Errorf("%d bytes are not a whole number of entries", len(table))
	}
	var groups [][]byte
	start := 0
	for at := 0; at < len(table); at += 4 {
		if le.Uint32(table[at:]) != 0 {
			continue
		}
		if len(groups) > 3 {
			break
		}
		groups = append(groups, table[start:at])
		start = at + 4
	}
	groups = append(groups, table[start:])
	switch {
	case len(groups[0]) != 0:
		return relocations{}, errors.New("it does not begin with a zero")
	case len(groups) == 3:
		return relocations{abs64: groups[1], abs32: groups[2]}, nil
	case len(groups) == 4:
		return relocations{abs64: groups[1], neg32: groups[2], abs32: groups[3]}, nil
	}
	return relocations{}, fmt.Errorf("%d groups of entries", len(groups)-1)
}

// count is the number of entries.
func (r relocations) count() int { return (len(r.abs64) + len(r.neg32) + len(r.abs32)) / 4 }

// relocate applies the table to the kernel in memory.
func (l *Loaded) relocate() error {
	if l.entry.Slide == 0 {
		return nil
	}
	r, err := l.img.relocations()
	if err != nil {
		return err
	}
	image, err := l.mem.Slice(l.entry.Kernel.Start, l.entry.Kernel.Size)
	if err != nil {
		return err
	}
	base := kernelMap + l.entry.Kernel.Start - l.entry.Offset
	if err := r.apply(image, base, l.entry.Slide); err != nil {
		return l.img.errorf("relocation table: %w; the file is damaged, or use --kaslr=off", err)
	}
	return nil
}

// apply adds slide to the addresses in a kernel that was linked to begin at the
// virtual address base.
func (r relocations) apply(image []byte, base, slide uint64) error {
	if len(image) < 8 {
		return errors.New("the kernel is too small for it")
	}
	last32, last64 := uint64(len(image)-4), uint64(len(image)-8)
	err := eachPlace(r.abs64, base, last64, func(off uint64) {
		b := image[off : off+8]
		le.PutUint64(b, le.Uint64(b)+slide)
	})
	if err != nil {
		return err
	}
	err = eachPlace(r.abs32, base, last32, func(off uint64) {
		b := image[off : off+4]
		le.PutUint32(b, le.Uint32(b)+uint32(slide))
	})
	if err != nil {
		return err
	}
	return eachPlace(r.neg32, base, last32, func(off uint64) {
		b := image[off : off+4]
		le.PutUint32(b, le.Uint32(b)-uint32(slide))
	})
}

// eachPlace calls do for each entry of a group, with its offset from base. Entries
// lie apart from each other, unless the table is damaged, and so several
// processors share the work.
func eachPlace(group []byte, base, last uint64, do func(off uint64)) error {
	const part = 16 << 10 // entries at once
	return parallel((len(group)+4*part-1)/(4*part), func(i int) error {
		for at := 4 * part * i; at < min(len(group), 4*part*(i+1)); at += 4 {
			off := place(group[at:]) - base
			if off > last {
				return fmt.Errorf("an entry for %#x, which is outside the kernel", place(group[at:]))
			}
			do(off)
		}
		return nil
	})
}

// place is the virtual address that an entry stands for.
func place(entry []byte) uint64 { return uint64(int64(int32(le.Uint32(entry)))) }
