package boot

import (
	"bytes"
	"debug/elf"
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
	// Flat is a file whose Multiboot header says where to load it.
	Flat
)

var formatNames = [...]string{"bzImage", "ELF", "flat"}

func (f Format) String() string { return formatNames[f] }

// Image is a kernel image whose headers have been read and checked. Its
// contents stay in the file until they are loaded.
type Image struct {
	Name   string
	Format Format
	// Packed is how the whole file is compressed, which is unpacked as it is
	// opened; not what a bzImage has inside.
	Packed Compression
	Header *SetupHeader // of a bzImage, and of the ELF kernel that was in it
	ELF    *Executable  // of an ELF image

	// Multiboot is what a Multiboot loader loads: ELF, or what the Multiboot
	// header says. It is nil for a kernel without such a header.
	Multiboot *Executable

	// Sealed holds what the image reads from, in a form that
	// [memory.Guest.MapFile] takes; nil for none. Load then maps what it can
	// instead of copying it.
	Sealed *os.File

	// Verify, if not nil, is called after the image has been read, and fails
	// when what was read may be something else by now.
	Verify func() error

	r    io.ReaderAt
	size int64
	file io.Closer
}

// Reader is what the image is read from, unpacked, and its size in bytes.
func (img *Image) Reader() (io.ReaderAt, int64) { return img.r, img.size }

// File is the file that Open opened; nil for an image from elsewhere, and for one
// that had to be unpacked.
func (img *Image) File() *os.File {
	if img.Packed != Uncompressed {
		return nil
	}
	f, _ := img.file.(*os.File)
	return f
}

// Open opens a kernel image. Close it after the last use.
func Open(path string) (*Image, error) {
	f, err := OpenInput(path)
	if err != nil {
		return nil, openError(path, err)
	}
	return OpenFile(path, f)
}

// OpenFile is Open for a file that is open already, and is closed with the image
// or for an error. The name is for messages.
func OpenFile(name string, f *os.File) (*Image, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, openError(name, err)
	}
	img, err := Parse(name, f, info.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	img.file = f
	return img, nil
}

// giveKernel is what to do about a file that is no kernel.
const giveKernel = "give a bzImage (such as /boot/vmlinuz-*) or an ELF vmlinux"

// openError says that a kernel cannot be opened, and what to do.
func openError(path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err // the rest is the path, which the message begins with
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("kernel %s: %w; copy it to where you can read it", path, err)
	}
	return fmt.Errorf("kernel %s: %w; %s", path, err, giveKernel)
}

// Close closes the file that Open opened.
func (img *Image) Close() error {
	if img.file == nil {
		return nil
	}
	return img.file.Close()
}

// Parse reads the headers of a kernel image of size bytes, which may be
// compressed as a whole. The name is for messages. The image reads from r until it
// is loaded.
func Parse(name string, r io.ReaderAt, size int64) (*Image, error) {
	img := &Image{Name: name, r: r, size: size}
	head, err := img.head()
	if err != nil {
		return nil, err
	}
	if img.Packed = detectCompression(head); img.Packed != Uncompressed {
		if err := img.unpackWhole(); err != nil {
			return nil, err
		}
		if head, err = img.head(); err != nil {
			return nil, err
		}
	}
	switch {
	case img.size == 0:
		err = errors.New("the file is empty; " + giveKernel)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		err = img.parseExecutable(head)
	case isBzImage(head):
		img.Format = BzImage
		img.Header, err = parseSetupHeader(head, img.size)
	default:
		img.Format = Flat
		if err = img.parseMultiboot(head); err == nil && img.Multiboot == nil {
			err = errors.New(describe(head))
		}
	}
	if err != nil {
		return nil, img.errorf("%w", err)
	}
	return img, nil
}

// head is the start of the file, as far as a Multiboot header may be.
func (img *Image) head() ([]byte, error) {
	head := make([]byte, min(img.size, multibootSearch))
	if n, err := img.r.ReadAt(head, 0); n < len(head) {
		return nil, img.errorf("%w", err)
	}
	return head, nil
}

// unpackWhole puts what a compressed file unpacks to in its place.
func (img *Image) unpackWhole() error {
	unpacked, err := readPacked(img.Packed, io.NewSectionReader(img.r, 0, img.size))
	if err != nil {
		return img.errorf("compressed with %v: %w; get the file anew", img.Packed, err)
	}
	img.r, img.size = bytes.NewReader(unpacked), int64(len(unpacked))
	return nil
}

// readPacked unpacks all of a file, up to what no kernel exceeds.
func readPacked(c Compression, packed io.Reader) ([]byte, error) {
	r, err := decompressor(c, packed)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	unpacked, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err == nil && len(unpacked) > maxUnpacked {
		err = fmt.Errorf("it unpacks to more than %d MiB, and no kernel does", maxUnpacked>>20)
	}
	return unpacked, err
}

// parseExecutable reads the headers of an ELF file: a Linux kernel, or one for
// Multiboot.
func (img *Image) parseExecutable(head []byte) error {
	img.Format = ELF
	var err error
	if img.ELF, err = parseELF(img.r, img.size); err != nil {
		return err
	}
	if err := img.parseMultiboot(head); err != nil {
		return err
	}
	switch {
	case img.Multiboot == nil:
		return img.ELF.checkKernel()
	case img.Multiboot != img.ELF && (img.ELF.isProgram() || img.ELF.checkKernel() != nil):
		img.Format, img.ELF = Flat, nil // as far as vmm is concerned
	}
	return nil
}

// errorf is an error about the image, which it names.
func (img *Image) errorf(format string, args ...any) error {
	return fmt.Errorf("kernel %s: %w", img.Name, fmt.Errorf(format, args...))
}

// named is an error about the image, which it names.
func (img *Image) named(err error) error { return img.errorf("%w", err) }

// describe says what a file that is no kernel looks like, and what to do.
func describe(head []byte) string {
	const fix = "; " + giveKernel
	has := func(off int, magic string) bool {
		return len(head) >= off && bytes.HasPrefix(head[off:], []byte(magic))
	}
	if c := detectCompression(head); c != Uncompressed {
		return fmt.Sprintf("compressed with %v, and what comes out as well; unpack it first: %s -dc FILE", c, c.program())
	}
	switch {
	case has(0x38, "ARM\x64"):
		return "a kernel for arm64, and this is an x86-64 machine; give one for x86-64"
	case has(0, "\xff\xd8\xff"):
		return "a JPEG picture, not a Linux kernel" + fix
	case has(0, cpioMagic), has(0, cpioMagicCRC):
		return "a cpio archive, which is what an initrd is, not a Linux kernel; pass it with --initrd"
	case has(0, "MZ"):
		return "an EFI program, not a Linux kernel by itself" + fix
	}
	return "not a Linux kernel" + fix
}

// checkRoom fails when low RAM is too small for the kernel.
func (img *Image) checkRoom(mem *memory.Guest, kernel memory.Range) error {
	switch end := kernel.End(); {
	case end < kernel.Start || end > memory.HoleStart:
		return img.errorf("it wants %d bytes at %#x, and RAM for a kernel ends at %#x at most; the file is damaged", kernel.Size, kernel.Start, uint64(memory.HoleStart))
	case end > lowRAM(mem).End():
		return img.errorf("it needs %dM of memory to start; choose --memory %[1]dM or more", mebibytes(end))
	}
	return nil
}

// mebibytes is n bytes in MiB, rounded up.
func mebibytes(n uint64) uint64 { return (n + 1<<20 - 1) >> 20 }
