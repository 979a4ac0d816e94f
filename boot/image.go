package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"vmm/memory"
)

// Format is what kind of file a kernel is.
type Format uint8

// The formats.
const (
	// BzImage is Linux's own: a setup header and a compressed kernel.
	BzImage Format = iota
	// ELF is an executable such as vmlinux.
	ELF
)

func (f Format) String() string {
	if f == BzImage {
		return "bzImage"
	}
	return "ELF"
}

// Image is a kernel image whose headers have been read and checked. Its
// contents stay in the file until they are loaded.
type Image struct {
	Name   string
	Format Format
	Header *SetupHeader // of a bzImage
	ELF    *Executable  // of an ELF image

	r    io.ReaderAt
	size int64
	file io.Closer
}

// FormatError says that a file is not a kernel that vmm can boot, and what it
// is instead.
type FormatError struct {
	Name string
	What string
}

func (e *FormatError) Error() string { return fmt.Sprintf("kernel %s: %s", e.Name, e.What) }

// Open opens a kernel image. Close it after the last use.
func Open(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &FormatError{path, "not a regular file"}
	}
	var img *Image
	if err == nil {
		img, err = Parse(path, f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	img.file = f
	return img, nil
}

// Close closes the file that Open opened.
func (img *Image) Close() error {
	if img.file == nil {
		return nil
	}
	return img.file.Close()
}

// Parse reads the headers of a kernel image of size bytes. The name is for
// messages.
func Parse(name string, r io.ReaderAt, size int64) (*Image, error) {
	img := &Image{Name: name, r: r, size: size}
	head := make([]byte, min(size, 0x1000))
	if n, err := r.ReadAt(head, 0); n < len(head) && err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	switch {
	case size == 0:
		return nil, img.errorf("the file is empty")
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		img.Format = ELF
		exe, err := parseELF(r, size)
		if err != nil {
			return nil, img.errorf("%w", err)
		}
		img.ELF = exe
	case isBzImage(head):
		img.Format = BzImage
		header, err := parseSetupHeader(head)
		if err != nil {
			return nil, img.errorf("%w", err)
		}
		img.Header = header
		if size <= header.kernelOffset() {
			return nil, img.errorf("truncated: the setup code alone is %d bytes and the file has %d", header.kernelOffset(), size)
		}
		if want := header.kernelOffset() + int64(header.SysSize)*16; size < want {
			// syssize is in 16-byte units, rounded up; the last few bytes
			// may be a signature or nothing at all.
			if want-size >= 16 {
				return nil, img.errorf("truncated: its header says %d bytes and the file has %d", want, size)
			}
		}
	default:
		return nil, img.errorf("%s", describe(head))
	}
	return img, nil
}

func (img *Image) errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	var known *FormatError
	if errors.As(err, &known) {
		return err
	}
	return &FormatError{img.Name, err.Error()}
}

// describe says what a file that is no kernel looks like.
func describe(head []byte) string {
	const fix = "; give a bzImage (such as /boot/vmlinuz-*) or an ELF vmlinux"
	has := func(off int, magic string) bool {
		return len(head) >= off+len(magic) && string(head[off:off+len(magic)]) == magic
	}
	switch {
	case has(0x38, "ARM\x64"):
		return "a kernel for arm64, and this is an x86-64 machine"
	case has(0, "\x1f\x8b"), has(0, "\xfd7zXZ\x00"), has(0, "\x28\xb5\x2f\xfd"), has(0, "BZh"),
		has(0, "\x02\x21\x4c\x18"), has(0, "\x5d\x00\x00"), has(0, "\x89LZO"):
		return "a compressed file, and not a kernel as it stands; decompress it first" + fix
	case has(0, "\xff\xd8\xff"):
		return "a JPEG picture, not a kernel" + fix
	case has(0, "070701"), has(0, "070702"):
		return "a cpio archive, which is what an initrd is; pass it with --initrd" + fix
	}
	return "not a Linux kernel" + fix
}

// Params are what a kernel is started with.
type Params struct {
	Protocol Protocol
	Cmdline  string
	Initrd   *Initrd // nil for none
	RSDP     uint64  // guest-physical address of the ACPI root pointer; 0 for none
}

// Load writes the kernel and all that it needs into guest memory.
func (img *Image) Load(mem *memory.Guest, p Params) (Entry, error) {
	if p.Protocol == Auto {
		p.Protocol = img.best()
	}
	if err := checkCmdline(p.Cmdline, img.maxCmdline()); err != nil {
		return Entry{}, err
	}
	switch {
	case img.Format == BzImage && (p.Protocol == Linux64 || p.Protocol == Linux32):
		return img.loadBzImage(mem, p)
	case img.Format == BzImage:
		return Entry{}, img.errorf("a bzImage has no %v entry; use --boot-protocol linux64, or the vmlinux it was made from", p.Protocol)
	case p.Protocol == Linux32:
		return Entry{}, img.errorf("an ELF image has no linux32 entry; use --boot-protocol linux64 or pvh, or a bzImage")
	}
	return img.loadELF(mem, p)
}

// best is the protocol that Auto stands for.
func (img *Image) best() Protocol {
	switch {
	case img.Format == ELF && img.ELF.PVH != nil:
		return PVH
	case img.Format == BzImage && !img.Header.has64():
		return Linux32
	}
	return Linux64
}

// needMemory is the error for a machine whose RAM ends before need.
func (img *Image) needMemory(need uint64) error {
	const mib = 1 << 20
	return fmt.Errorf("kernel %s needs %dM of memory to start; choose a larger --memory", img.Name, (need+mib-1)/mib)
}

// readInto reads n bytes at offset off of the image into guest memory at addr.
func (img *Image) readInto(mem *memory.Guest, addr uint64, off int64, n uint64) error {
	dst, err := mem.Slice(addr, n)
	if err != nil {
		return img.needMemory(addr + n)
	}
	if _, err := io.ReadFull(io.NewSectionReader(img.r, off, int64(n)), dst); err != nil {
		return fmt.Errorf("kernel %s: %w", img.Name, err)
	}
	return nil
}
