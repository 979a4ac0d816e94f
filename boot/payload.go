package boot

import (
	"bytes"
	"debug/elf"
	"io"
)

// Payload is the compressed kernel inside a bzImage.
type Payload struct {
	Compression Compression `json:"compression"`
	Offset      int64       `json:"offset"` // in the file
	Size        int64       `json:"size"`   // in the file, in bytes
	// Unpacked is the size of what comes out, as the last four bytes of the
	// payload say.
	Unpacked uint32 `json:"unpacked"`
}

// maxUnpacked bounds what a payload may say it unpacks to, in bytes. A kernel
// with all of Debian's options is 60 MiB.
const maxUnpacked = 1 << 30

// Payload finds the compressed kernel in a bzImage.
// Documentation/arch/x86/boot.rst, payload_offset.
func (img *Image) Payload() (Payload, error) {
	h := img.Header
	if h == nil || h.Version < version208 || h.PayloadLength == 0 {
		return Payload{}, img.errorf("it has no compressed kernel to unpack; use --boot-protocol linux64 or linux32")
	}
	p := Payload{Offset: h.kernelOffset() + int64(h.PayloadOffset), Size: int64(h.PayloadLength)}
	if p.Size < 8 || p.Offset+p.Size > img.size {
		return Payload{}, img.errorf("truncated: its payload of %d bytes at %d reaches past the end of the file, %d", p.Size, p.Offset, img.size)
	}
	var head [16]byte
	if _, err := img.r.ReadAt(head[:], p.Offset); err != nil && err != io.EOF {
		return Payload{}, img.errorf("%w", err)
	}
	p.Compression = detectCompression(head[:])
	p.Unpacked = uint32(p.Size)
	if p.Compression != Uncompressed {
		var tail [4]byte
		if _, err := img.r.ReadAt(tail[:], p.Offset+p.Size-4); err != nil {
			return Payload{}, img.errorf("%w", err)
		}
		p.Unpacked = le.Uint32(tail[:])
	}
	return p, nil
}

// unpackable reports whether the image has a payload that Unpack knows how to
// unpack. A payload that it knows, and that lies about itself, is an error.
func (img *Image) unpackable() (bool, error) {
	if img.Header.Version < version208 || img.Header.PayloadLength == 0 {
		return false, nil
	}
	p, err := img.Payload()
	if err != nil {
		return false, err
	}
	if p.Compression != Uncompressed {
		return true, nil
	}
	head := make([]byte, len(elf.ELFMAG))
	_, err = img.r.ReadAt(head, p.Offset)
	return string(head) == elf.ELFMAG, err
}

// Unpack unpacks the ELF kernel inside a bzImage, and is that kernel as an image
// with the bzImage's setup header. Close it after the last use.
func (img *Image) Unpack() (*Image, error) {
	vmlinux, err := img.Vmlinux()
	if err != nil {
		return nil, err
	}
	return img.Unpacked(bytes.NewReader(vmlinux), int64(len(vmlinux)), nil)
}

// Unpacked is the image of the ELF kernel inside a bzImage that has been
// unpacked, and can be read from r. Its Close closes file, if that is not nil.
func (img *Image) Unpacked(r io.ReaderAt, size int64, file io.Closer) (*Image, error) {
	exe, err := parseELF(r, size)
	if err == nil {
		err = exe.checkLinux()
	}
	if err != nil {
		return nil, img.errorf("payload: %w", err)
	}
	return &Image{Name: img.Name, Format: ELF, Header: img.Header, ELF: exe, r: r, size: size, file: file}, nil
}

// Vmlinux unpacks the ELF kernel inside a bzImage. Behind the ELF file may lie
// the table with which the kernel relocates itself.
func (img *Image) Vmlinux() ([]byte, error) {
	p, err := img.Payload()
	if err != nil {
		return nil, err
	}
	// The kernel makes room for all that comes out, and says so.
	limit := uint32(maxUnpacked)
	if h := img.Header; h.Version >= version210 && h.InitSize != 0 {
		limit = min(limit, h.InitSize)
	}
	if p.Unpacked > limit {
		return nil, img.errorf("its payload says it unpacks to %d bytes, and there is room for %d: the file is damaged", p.Unpacked, limit)
	}
	packed := p.Size
	if p.Compression != Uncompressed && p.Compression != Gzip {
		packed -= 4 // gzip's own trailer is the size
	}
	r, err := decompressor(p.Compression, io.NewSectionReader(img.r, p.Offset, packed))
	if err != nil {
		return nil, img.errorf("%v payload: %w", p.Compression, err)
	}
	defer r.Close()
	out := make([]byte, p.Unpacked)
	n, err := io.ReadFull(r, out)
	if err == nil {
		// The end, and with it the checksum of a format that has one.
		n, err = io.ReadFull(r, make([]byte, 1))
	}
	switch {
	case err == nil || n > 0 || err == io.ErrUnexpectedEOF:
		return nil, img.errorf("%v payload: it does not unpack to the %d bytes that it says", p.Compression, p.Unpacked)
	case err != io.EOF:
		return nil, img.errorf("%v payload: %w", p.Compression, err)
	}
	if !bytes.HasPrefix(out, []byte(elf.ELFMAG)) {
		return nil, img.errorf("its payload is neither an ELF file nor compressed in a way that Linux knows")
	}
	return out, nil
}
