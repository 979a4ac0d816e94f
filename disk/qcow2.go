package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/lima-vm/go-qcow2reader/image/qcow2"
	"golang.org/x/sys/unix"

	"vmm/memory"
)

// qcow2Magic is what a qcow2 image begins with: "QFI" and 0xfb.
const qcow2Magic = 0x514649fb

// cow is a qcow2 image, for reading.
type cow struct {
	file  *os.File
	image *qcow2.Qcow2
	size  int64
}

func openQcow2(c Config, file *os.File) (Image, error) {
	if !c.ReadOnly {
		return nil, errors.New(`vmm reads qcow2 images but does not write them; add "ro", or convert it: qemu-img convert -O raw FILE FILE.img`)
	}
	if c.Direct {
		return nil, errors.New(`"cache=none" is for raw images only`)
	}
	if err := checkQcow2(file); err != nil {
		return nil, err
	}
	// Only as an io.ReaderAt: given a name, the library would open the files
	// that an image refers to, whatever they are.
	image, err := qcow2.Open(io.NewSectionReader(file, 0, math.MaxInt64), nil)
	if err != nil {
		return nil, fmt.Errorf("qcow2: %w", err)
	}
	if err := image.Readable(); err != nil {
		return nil, fmt.Errorf("qcow2: %w", err)
	}
	if err := checkSize(image.Size()); err != nil {
		return nil, err
	}
	return &cow{file, image, image.Size()}, nil
}

// checkQcow2 refuses what the library would choke on: a table larger than the
// file, from a header that is damaged or malicious. docs/interop/qcow2.txt of
// QEMU, "Header".
func checkQcow2(file *os.File) error {
	var header [72]byte
	if _, err := file.ReadAt(header[:], 0); err != nil && err != io.EOF {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	be := binary.BigEndian
	clusterBits, l1Size, l1Offset := be.Uint32(header[20:]), uint64(be.Uint32(header[36:])), be.Uint64(header[40:])
	size := uint64(info.Size())
	switch {
	case be.Uint32(header[:]) != qcow2Magic:
		return errors.New("it is not a qcow2 image")
	case be.Uint64(header[8:]) != 0:
		return errors.New("qcow2: it is based on another image; make it stand alone: qemu-img convert -O qcow2 FILE FILE.qcow2")
	case clusterBits < 9 || clusterBits > 21:
		return fmt.Errorf("qcow2: clusters of 2^%d bytes", clusterBits)
	case l1Offset > size || l1Size*8 > size-l1Offset:
		return errors.New("qcow2: its first table lies outside the file: the image is damaged or cut short")
	}
	return nil
}

func (c *cow) Size() int64 { return c.size }

func (c *cow) Read(v *memory.Vector, off int64, wait bool) (err error) {
	if !wait {
		return unix.EAGAIN
	}
	// The tables come from the image: the library has been seen to trust
	// them.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("qcow2: damaged at %d: %v: %w", off, p, unix.EIO)
		}
	}()
	buf := make([]byte, v.Len())
	if _, err := c.image.ReadAt(buf, off); err != nil && err != io.EOF {
		return fmt.Errorf("%w: %w", unix.EIO, err)
	}
	v.CopyFrom(buf)
	return nil
}

func (c *cow) Write(*memory.Vector, int64, bool, bool) error { return unix.EROFS }
func (c *cow) Flush() error                                  { return nil }
func (c *cow) Discard(int64, int64) error                    { return unix.EROFS }
func (c *cow) Zero(int64, int64, bool) error                 { return unix.EROFS }

func (c *cow) Close() error { return errors.Join(c.image.Close(), c.file.Close()) }
