package boot

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"

	"vmm/memory"
)

// KASLR says whether a kernel's addresses are chosen at random: kernel address
// space layout randomization. It concerns kernels that vmm enters behind the
// code that would do it in the guest.
type KASLR uint8

// The choices.
const (
	// KASLRAuto chooses at random where the kernel was built for it and its
	// command line does not say "nokaslr".
	KASLRAuto KASLR = iota
	// KASLROn fails where KASLRAuto would not choose at random.
	KASLROn
	// KASLROff loads the kernel where it was linked to be.
	KASLROff
)

var kaslrNames = [...]string{"auto", "on", "off"}

func (k KASLR) String() string { return kaslrNames[k] }

// ParseKASLR is the inverse of String.
func ParseKASLR(s string) (KASLR, error) {
	if i := slices.Index(kaslrNames[:], s); i >= 0 {
		return KASLR(i), nil
	}
	return KASLRAuto, fmt.Errorf("choose one of %s", strings.Join(kaslrNames[:], ", "))
}

const (
	// minKernelAlign is the least alignment of a 64-bit kernel, which is mapped
	// with 2 MiB pages: MIN_KERNEL_ALIGN of arch/x86/include/asm/boot.h.
	minKernelAlign = 2 << 20
	// kernelMap is the virtual address at which physical address 0 would be if
	// the kernel were where it was linked to be: __START_KERNEL_map of
	// arch/x86/include/asm/page_64_types.h.
	kernelMap = 0xffff_ffff_8000_0000
	// kernelImageSize is how much virtual address space a relocatable kernel
	// has from there on: KERNEL_IMAGE_SIZE of the same file.
	kernelImageSize = 1 << 30
)

// randomize chooses the kernel's physical and virtual addresses as
// choose_random_location of arch/x86/boot/compressed/kaslr.c does, and reports
// whether it did.
func (l *Loaded) randomize(p Params) (bool, error) {
	if why := l.fixed(p); why != "" {
		if p.KASLR == KASLROn {
			return false, l.img.errorf("KASLR is impossible: %s; use --kaslr=auto", why)
		}
		p.Log.Debug("KASLR is off", "reason", why)
		return false, nil
	}
	align := uint64(l.header.KernelAlignment)
	link := l.entry.Kernel
	size := (link.Size + minKernelAlign - 1) &^ (minKernelAlign - 1)
	if align < minKernelAlign || bits.OnesCount64(align) != 1 || link.Start%align != 0 || link.Start+size > kernelImageSize {
		return false, l.img.errorf("%d bytes at %#x, aligned to %#x: it cannot be where it says; the file is damaged", link.Size, link.Start, align)
	}
	var places slots
	if !ownMemory(p.Cmdline) {
		places = physicalSlots(l.mem, link.Start, size, align, l.header.XLoadFlags&xlfAbove4G != 0, l.entry.Initrd)
	}
	if len(places) == 0 {
		// What memory and initrd leave may be just enough for the kernel where it
		// was linked to be: its size here is rounded up.
		p.Log.Debug("the kernel stays at its physical address: no room for another, or the command line takes memory away")
	} else {
		n, err := draw(p.Random, places.count(align, size))
		if err != nil {
			return false, err
		}
		l.entry.Kernel.Start = places.at(n, align, size)
		l.entry.Offset = l.entry.Kernel.Start - link.Start
	}
	n, err := draw(p.Random, 1+(kernelImageSize-link.Start-size)/align)
	if err != nil {
		return false, err
	}
	l.entry.Slide = n * align
	l.header.LoadFlags |= kaslrFlag
	return true, nil
}

// fixed says why the kernel has to be where it was linked to be; "" if it has
// not.
func (l *Loaded) fixed(p Params) string {
	switch {
	case p.KASLR == KASLROff:
		return "--kaslr=off"
	case hasWord(p.Cmdline, "nokaslr"):
		return "the command line says nokaslr"
	case l.entry.Mode != LongMode:
		return fmt.Sprintf("the %v entry has none", l.entry.Protocol)
	case !l.img.IsLinux():
		return "nothing in the file says that it is a Linux kernel"
	case l.img.relocationsSize() == 0:
		return "the kernel was not built for it (CONFIG_RANDOMIZE_BASE)"
	}
	return ""
}

// hasWord reports whether a command line has a word.
func hasWord(cmdline, word string) bool {
	return slices.Contains(strings.Fields(cmdline), word)
}

// ownMemory reports whether a command line says which memory the kernel may
// use. The kernel's own KASLR works some of that out; to stay where the kernel
// was linked to be is always right.
func ownMemory(cmdline string) bool {
	return slices.ContainsFunc(strings.Fields(cmdline), func(word string) bool {
		return strings.HasPrefix(word, "mem=") || strings.HasPrefix(word, "memmap=") || strings.HasPrefix(word, "hugepages=")
	})
}

// slots are ranges of memory, in each of which the kernel may begin at every
// multiple of its alignment, as long as it ends inside.
type slots []memory.Range

// physicalSlots lists the RAM where a kernel of size bytes may go: at or above
// where it was linked to be, and apart from the initrd. All else that it is given
// lies below 1 MiB.
func physicalSlots(mem *memory.Guest, lowest, size, align uint64, above4G bool, initrd memory.Range) slots {
	var s slots
	add := func(start, end uint64) {
		start = (max(start, lowest) + align - 1) &^ (align - 1)
		if start <= end && end-start >= size {
			s = append(s, memory.Range{Start: start, Size: end - start})
		}
	}
	for _, r := range mem.Regions() {
		switch {
		case r.Start >= memory.HoleEnd && !above4G:
		case r.Overlaps(initrd):
			add(r.Start, initrd.Start)
			add(initrd.End(), r.End())
		default:
			add(r.Start, r.End())
		}
	}
	return s
}

// count is the number of places.
func (s slots) count(align, size uint64) uint64 {
	n := uint64(0)
	for _, r := range s {
		n += 1 + (r.Size-size)/align
	}
	return n
}

// at is the place with the given number.
func (s slots) at(n, align, size uint64) uint64 {
	for _, r := range s {
		here := 1 + (r.Size-size)/align
		if n < here {
			return r.Start + n*align
		}
		n -= here
	}
	panic("boot: no such place")
}

// draw is a random number below n.
func draw(random io.Reader, n uint64) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return 0, fmt.Errorf("KASLR: no random numbers: %w", err)
	}
	// The high half of the product is spread more evenly than a remainder.
	high, _ := bits.Mul64(binary.LittleEndian.Uint64(b[:]), n)
	return high, nil
}
