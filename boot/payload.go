package boot

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"vmm/memory"
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

// hasPayload reports whether there is a compressed kernel. Others, such as
// memtest86+, are as they run.
func (img *Image) hasPayload() bool {
	h := img.Header
	return h != nil && h.Version >= version208 && h.PayloadLength > 0
}

// Payload finds the compressed kernel in a bzImage.
// Documentation/arch/x86/boot.rst, payload_offset.
func (img *Image) Payload() (Payload, error) {
	h := img.Header
	if !img.hasPayload() {
		protocol := Linux32
		if h != nil && h.has64() {
			protocol = Linux64
		}
		return Payload{}, img.errorf("it has no compressed kernel to unpack, and needs none: --boot-protocol auto enters it, as %v does", protocol)
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
	if !img.hasPayload() {
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
	vmlinux, free, err := img.UnpackTo(memory.Scratch)
	if err != nil {
		return nil, err
	}
	kernel, err := img.Unpacked(bytes.NewReader(vmlinux), int64(len(vmlinux)), closer(free))
	if err != nil {
		return nil, errors.Join(err, free())
	}
	return kernel, nil
}

// closer is a function as an io.Closer.
type closer func() error

func (c closer) Close() error { return c() }

// PayloadReader reads the compressed kernel, for who wants to know whether it has
// seen it before.
func (img *Image) PayloadReader() (*io.SectionReader, error) {
	p, err := img.Payload()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(img.r, p.Offset, p.Size), nil
}

// Unpacked is the image of the ELF kernel inside a bzImage that has been
// unpacked, and can be read from r. Its Close closes file, if that is not nil.
func (img *Image) Unpacked(r io.ReaderAt, size int64, file io.Closer) (*Image, error) {
	exe, err := parseELF(r, size)
	if err == nil {
		err = exe.checkKernel()
	}
	if err != nil {
		return nil, img.errorf("payload: %w", err)
	}
	return &Image{Name: img.Name, Format: ELF, Header: img.Header, ELF: exe, r: r, size: size, file: file}, nil
}

// Vmlinux unpacks the ELF kernel inside a bzImage. Behind the ELF file may lie
// the table with which the kernel relocates itself.
func (img *Image) Vmlinux() ([]byte, error) {
	b, _, err := img.unpack(func(n int) ([]byte, func() error, error) {
		return make([]byte, n), func() error { return nil }, nil
	})
	return b, err
}

// UnpackTo unpacks the ELF kernel inside a bzImage to memory that alloc provides,
// together with a function that gives it back. Segments end where only zeros are
// left of them, and so need not be copied further.
func (img *Image) UnpackTo(alloc func(n int) ([]byte, func() error, error)) ([]byte, func() error, error) {
	vmlinux, free, err := img.unpack(alloc)
	if err != nil {
		return nil, nil, err
	}
	trim(vmlinux)
	return vmlinux, free, nil
}

func (img *Image) unpack(alloc func(n int) ([]byte, func() error, error)) (_ []byte, _ func() error, err error) {
	p, err := img.Payload()
	if err != nil {
		return nil, nil, err
	}
	// The kernel makes room for all that comes out, and says so.
	limit := uint32(maxUnpacked)
	if h := img.Header; h.Version >= version210 && h.InitSize != 0 {
		limit = min(limit, h.InitSize)
	}
	if p.Unpacked > limit {
		return nil, nil, img.errorf("its payload says it unpacks to %d bytes, and there is room for %d: the file is damaged", p.Unpacked, limit)
	}
	packed := p.Size
	if p.Compression != Uncompressed && p.Compression != Gzip {
		packed -= 4 // gzip's own trailer is the size
	}
	out, free, err := alloc(int(p.Unpacked))
	if err != nil {
		return nil, nil, img.errorf("%w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, free())
		}
	}()
	if err := unpackInto(out, p.Compression, io.NewSectionReader(img.r, p.Offset, packed)); err != nil {
		return nil, nil, img.errorf("%v payload: %w; get the file anew", p.Compression, err)
	}
	if !bytes.HasPrefix(out, []byte(elf.ELFMAG)) {
		return nil, nil, img.errorf("its payload is neither an ELF file nor compressed in a way that Linux knows")
	}
	if !p.Compression.checked() {
		if err := img.checkSum(); err != nil {
			return nil, nil, err
		}
	}
	return out, free, nil
}

// unpackInto unpacks data that unpack to just as much as out holds.
func unpackInto(out []byte, c Compression, packed *io.SectionReader) error {
	wrong := fmt.Errorf("it does not unpack to the %d bytes that it says", len(out))
	if c == Zstd {
		// In one go: the reader of package zstd copies everything once more.
		n, err := unzstd(out, packed)
		if err == nil && n != len(out) {
			err = wrong
		}
		return err
	}
	r, err := decompressor(c, packed)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.ReadFull(r, out)
	if err == nil {
		// The end, and with it the checksum of a format that has one.
		n, err = io.ReadFull(r, make([]byte, 1))
	}
	switch {
	case err == nil || n > 0 || err == io.ErrUnexpectedEOF:
		return wrong
	case err != io.EOF:
		return err
	}
	return nil
}

// unzstd unpacks into out, and says how much there was, which may be more.
func unzstd(out []byte, packed *io.SectionReader) (n int, err error) {
	in, free, err := memory.Scratch(int(packed.Size()))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, free()) }()
	if _, err := io.ReadFull(packed, in); err != nil {
		return 0, err
	}
	// More than there should be shows a size that lies; but not much more. A limit
	// below the window would be one on the window.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderMaxMemory(max(uint64(len(out))+1, maxWindow)))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	unpacked, err := d.DecodeAll(in, out[:0])
	return len(unpacked), err
}

// trim shortens what each segment of a 64-bit ELF file has in the file by the
// pages of zeros at its end: memory is zero already.
func trim(vmlinux []byte) {
	const fileSize = 32 // offset of p_filesz in a program header: elf.Prog64
	exe, err := parseELF(bytes.NewReader(vmlinux), int64(len(vmlinux)))
	if err != nil || exe.Class != elf.ELFCLASS64 {
		return // whoever loads it says what is wrong
	}
	table, entrySize := le.Uint64(vmlinux[32:]), uint64(le.Uint16(vmlinux[54:])) // e_phoff, e_phentsize: elf.Header64
	for i, s := range exe.Segments {
		if !s.loaded() || int64(s.Offset+s.FileSize) == exe.end {
			continue // the last tells where the file ends
		}
		used := 0
		_ = memory.NonZero(vmlinux[s.Offset:s.Offset+s.FileSize], func(off int, run []byte) error {
			used = off + len(run)
			return nil
		})
		le.PutUint64(vmlinux[table+uint64(i)*entrySize+fileSize:], uint64(used))
	}
}
