package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"vmm/disk/qcow2"
	"vmm/memory"
)

// qcow2Image is a qcow2 image, for reading.
type qcow2Image struct {
	file    *os.File
	image   *qcow2.Image
	buffers buffers
}

func openQcow2(c Config, file *os.File) (Image, error) {
	if !c.ReadOnly {
		return nil, errors.New(`vmm reads qcow2 images but does not write them; add "ro", or convert it: qemu-img convert -O raw FILE FILE.img`)
	}
	if c.Direct {
		return nil, errors.New(`"cache=none" is for raw images only`)
	}
	fileSize, err := file.Seek(0, unix.SEEK_END) // of a block device too
	if err != nil {
		return nil, err
	}
	image, err := qcow2.Open(file, fileSize)
	if err != nil {
		return nil, err
	}
	if err := checkSize(image.Size()); err != nil {
		return nil, err
	}
	return &qcow2Image{file, image, newBuffers()}, nil
}

func (c *qcow2Image) Size() int64 { return c.image.Size() }

func (c *qcow2Image) Read(v *memory.Vector, off int64, wait bool) error {
	if !wait {
		return unix.EAGAIN
	}
	buf, err := c.buffers.get()
	if err != nil {
		return err
	}
	defer c.buffers.put(buf)
	for !v.Empty() {
		n := min(v.Len(), len(buf))
		if _, err := c.image.ReadAt(buf[:n], off); err != nil {
			return fmt.Errorf("%w: %w", unix.EIO, err)
		}
		v.CopyFrom(buf[:n])
		v.Skip(n)
		off += int64(n)
	}
	return nil
}

func (c *qcow2Image) Write(*memory.Vector, int64, bool, bool) error { return unix.EROFS }
func (c *qcow2Image) Flush() error                                  { return nil }
func (c *qcow2Image) Discard(int64, int64) error                    { return unix.EROFS }
func (c *qcow2Image) Zero(int64, int64, bool) error                 { return unix.EROFS }

func (c *qcow2Image) Close() error {
	err := c.buffers.close()
	c.image.Close()
	return errors.Join(err, c.file.Close())
}
