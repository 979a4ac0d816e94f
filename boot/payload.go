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
		return Payload{}, img.errorf("it has no compressed payload")
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

// Vmlinux unpacks the ELF kernel inside a bzImage. Behind the ELF file may lie
// the table with which the kernel relocates itself.
func (img *Image) Vmlinux() ([]byte, error) {
	p, err := img.Payload()
	if err != nil {
		return nil, err
	}
	if p.Unpacked > maxUnpacked {
		return nil, img.errorf("its payload says it unpacks to %d MiB, and no kernel is larger than %d", p.Unpacked>>20, maxUnpacked>>20)
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
	// The buffer grows with what really comes out, not with what the trailer
	// says; one byte more than that shows a trailer that lies.
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, int64(p.Unpacked)+1))
	switch {
	case err != nil:
		return nil, img.errorf("%v payload: %w", p.Compression, err)
	case n != int64(p.Unpacked):
		return nil, img.errorf("%v payload: it does not unpack to the %d bytes that it says", p.Compression, p.Unpacked)
	case !bytes.HasPrefix(out.Bytes(), []byte(elf.ELFMAG)):
		return nil, img.errorf("its payload is neither an ELF file nor compressed in a way that Linux knows")
	}
	return out.Bytes(), nil
}
