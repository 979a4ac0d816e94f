package memory

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapAligned maps size bytes of memory. Where they begin is a multiple of
// HugePageSize, as it is in the guest: a huge page of the host can then be one of
// the guest's, which KVM asks for.
func mapAligned(size uint64, flags int) ([]byte, error) {
	const prot = unix.PROT_READ | unix.PROT_WRITE
	if size < HugePageSize || flags&unix.MAP_HUGETLB != 0 {
		p, err := unix.MmapPtr(-1, 0, nil, uintptr(size), prot, flags)
		if err != nil {
			return nil, err
		}
		return unsafe.Slice((*byte)(p), size), nil
	}
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(size+HugePageSize), prot, flags)
	if err != nil {
		return nil, err
	}
	before := -uintptr(p) & (HugePageSize - 1)
	after := HugePageSize - before
	start := unsafe.Add(p, before)
	if before > 0 {
		err = unix.MunmapPtr(p, before)
	}
	if err == nil && after > 0 {
		err = unix.MunmapPtr(unsafe.Add(start, size), after)
	}
	return unsafe.Slice((*byte)(start), size), err
}

func unmap(host []byte) error {
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(host)), uintptr(len(host)))
}

// HostAddr is where the memory behind r begins in this process, for those who
// look at the process from outside.
func (r *Region) HostAddr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.host))) }
