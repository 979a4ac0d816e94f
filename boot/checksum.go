package boot

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
)

// checkSum looks at the CRC-32 at the end of a bzImage, for payloads whose
// compression has none. From boot protocol 2.08 on, the remainder of everything
// up to the limit that syssize sets, this sum included, is 0.
// Documentation/arch/x86/boot.rst, "The Image Checksum". Linux 6.15 and later
// have it no more; of those, nobody can tell.
func (img *Image) checkSum() error {
	h := img.Header
	var major, minor int
	if n, _ := fmt.Sscanf(img.kernelVersion(), "%d.%d", &major, &minor); n < 2 || major > 6 || major == 6 && minor >= 15 {
		return nil
	}
	setup := make([]byte, h.kernelOffset())
	if _, err := img.r.ReadAt(setup, 0); err != nil {
		return img.errorf("%w", err)
	}
	unsign(setup)
	sum := crc32.NewIEEE()
	sum.Write(setup)
	if _, err := io.Copy(sum, io.NewSectionReader(img.r, int64(len(setup)), int64(h.SysSize)*16)); err != nil {
		return img.errorf("%w", err)
	}
	// Package crc32 inverts what it returns, the kernel's build does not.
	if ^sum.Sum32() != 0 {
		return img.errorf("the file is damaged, or was changed after the kernel was built: its checksum is wrong; get it anew, or use --boot-protocol linux64 to start it as it is")
	}
	return nil
}

// unsign makes an image's setup code what it was before it was signed for Secure
// Boot: the checksum of its PE header, and where its certificates are, are zero.
// Microsoft's "PE Format", "Optional Header".
func unsign(setup []byte) {
	const (
		offset   = 0x3c // of the offset of the PE signature
		optional = 24   // the optional header, from the signature on
		checksum = 64   // in the optional header
		magic32  = 0x10b
		// The fifth data directory, in the headers of 32 and of 64 bits.
		certificates32 = 96 + 4*8
		certificates64 = 112 + 4*8
	)
	at := int64(le.Uint32(setup[offset:]))
	if at+optional+certificates64+8 > int64(len(setup)) || !bytes.HasPrefix(setup[at:], []byte("PE\x00\x00")) {
		return
	}
	header := setup[at+optional:]
	certificates := certificates64
	if le.Uint16(header) == magic32 {
		certificates = certificates32
	}
	clear(header[checksum:][:4])
	clear(header[certificates:][:8])
}
