package memory

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MapFile puts n bytes of a file, from offset off on, at guest-physical address
// addr, instead of what is there: the pages of the host's page cache, shared with
// whoever maps them too, until the guest writes to them and gets a copy of its
// own. All three numbers must be multiples of PageSize, and RAM must not consist
// of huge pages.
//
// A file that changes would change under the guest, and one that shrinks would take
// memory away from it. MapFile therefore takes only memory files that are sealed
// against both: memfd_create(2), fcntl(2) F_ADD_SEALS.
func (g *Guest) MapFile(addr uint64, f *os.File, off int64, n uint64) error {
	if addr%PageSize != 0 || off%PageSize != 0 || n%PageSize != 0 {
		return fmt.Errorf("guest memory: a file cannot be mapped in parts of pages: %d bytes at %d to %#x", n, off, addr)
	}
	host, err := g.Slice(addr, n)
	if err != nil || n == 0 {
		return err
	}
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&Seals != Seals {
		return fmt.Errorf("guest memory: %s is not sealed (%w)", f.Name(), err)
	}
	if err := mapFile(host, f, off); err != nil {
		return fmt.Errorf("guest memory: map %d bytes of %s: %w", n, f.Name(), err)
	}
	g.mapped.add(host)
	return nil
}

// mapFile puts a file, from an offset on, in place of host, which consists of pages.
func mapFile(host []byte, f *os.File, off int64) error {
	_, err := unix.MmapPtr(int(f.Fd()), off, unsafe.Pointer(unsafe.SliceData(host)), uintptr(len(host)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}

// Seals are those without which MapFile does not take a file.
const Seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// overlaps reports whether two pieces of the host's memory share a byte.
func overlaps(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	as, bs := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return as < bs+uintptr(len(b)) && bs < as+uintptr(len(a))
}

// clearPages puts zero pages in place of what is at host, which consists of pages.
func clearPages(host []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(host)), uintptr(len(host)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return os.NewSyscallError("mmap", err)
}
