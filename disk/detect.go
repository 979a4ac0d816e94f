package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// container is a format that keeps a disk in a file in some other way than byte for
// byte.
type container struct {
	name  string // for people
	qemu  string // for qemu-img
	magic string
	off   int  // of the magic, in the first sector
	tail  bool // or else in the last
}

// containers are the formats that are told from a raw image.
var containers = []container{
	{name: "qcow2", qemu: "qcow2", magic: "QFI\xfb\x00\x00\x00\x02"},
	{name: "qcow2", qemu: "qcow2", magic: "QFI\xfb\x00\x00\x00\x03"},
	{name: "qcow", qemu: "qcow", magic: "QFI\xfb"},
	{name: "QED", qemu: "qed", magic: "QED\x00"},
	{name: "VMDK", qemu: "vmdk", magic: "KDMV"},
	{name: "VMDK", qemu: "vmdk", magic: "COWD"},
	{name: "VMDK", qemu: "vmdk", magic: "# Disk DescriptorFile"},
	{name: "VDI", qemu: "vdi", magic: "\x7f\x10\xda\xbe", off: 64},
	{name: "VHDX", qemu: "vhdx", magic: "vhdxfile"},
	{name: "VHD", qemu: "vpc", magic: "conectix"},
	{name: "VHD", qemu: "vpc", magic: "conectix", tail: true}, // of fixed size: a raw image and a footer
	{name: "Parallels", qemu: "parallels", magic: "WithoutFreeSpace"},
	{name: "Parallels", qemu: "parallels", magic: "WithouFreSpacExt"},
}

// detect returns what the first or, with tail, the last sector of a file makes it
// look like, or nil for nothing in particular.
func detect(sector []byte, tail bool) *container {
	for i := range containers {
		c := &containers[i]
		if c.tail == tail && len(sector) >= c.off && bytes.HasPrefix(sector[c.off:], []byte(c.magic)) {
			return c
		}
	}
	return nil
}

// refuseContainer fails if the file, of the given size, does not look like a raw
// image. It is for images whose format nobody has said. The format is never
// guessed: a guest could choose it, by what it writes to its disk.
func refuseContainer(file *os.File, size int64) error {
	for _, tail := range []bool{false, true} {
		// O_DIRECT reads whole blocks, wherever the sector begins in one.
		block := int64(4096)
		off := int64(0)
		if tail {
			off = max(0, size-SectorSize) / block * block
		}
		buf, err := unix.Mmap(-1, 0, int(block), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		n, err := file.ReadAt(buf, off)
		var found *container
		if err == nil || err == io.EOF {
			sector := buf[:n]
			if tail {
				sector = sector[max(0, n-SectorSize):]
			}
			found, err = detect(sector, tail), nil
		}
		if err := errors.Join(err, unix.Munmap(buf)); err != nil {
			return err
		}
		switch {
		case found == nil:
		case found.name == "qcow2":
			return errors.New(`it looks like a qcow2 image; add "format=qcow2,ro", or "format=raw" to use it as it is`)
		default:
			return fmt.Errorf(`it looks like a %s image, which vmm does not read; convert it: qemu-img convert -f %s -O raw FILE FILE.img, or add "format=raw" to use it as it is`, found.name, found.qemu)
		}
	}
	return nil
}

// guards reports whether n bytes at off hold the places by which refuseContainer
// decides, and the guest must not write what it likes there: the next start would
// fail. Whoever says that the format is raw is never asked again.
func (r *raw) guards(off, n int64) bool {
	return r.guarded && (off < SectorSize || off+n > r.size-SectorSize)
}

// refuseMagic fails if p, which is to be written at off, would make the file look
// like anything but a raw image.
func (r *raw) refuseMagic(p []byte, off int64) error {
	end := off + int64(len(p))
	var found *container
	if off < SectorSize {
		found = detect(p, false) // requests begin at sectors: this is the first
	}
	if last := r.size - SectorSize; found == nil && off <= last && last < end {
		found = detect(p[last-off:], true)
	}
	if found == nil {
		return nil
	}
	return fmt.Errorf(`it would make the disk look like a %s image, which would not start again; add "format=raw" to allow it: %w`, found.name, unix.EPERM)
}
