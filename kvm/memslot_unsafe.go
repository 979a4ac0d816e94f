package kvm

import (
	"fmt"
	"runtime"
	"unsafe"
)

// memoryRegion is struct kvm_userspace_memory_region.
type memoryRegion struct {
	Slot          uint32
	Flags         uint32
	GuestPhysAddr uint64
	MemorySize    uint64 // bytes
	UserspaceAddr uint64
}

// MemoryFlags qualify a memory slot.
type MemoryFlags uint32

// Flags of SetMemory.
const (
	// MemoryLogDirty records which pages the guest writes, for DirtyLog.
	MemoryLogDirty MemoryFlags = 1 << 0
	// MemoryReadOnly turns guest writes into MMIO exits.
	MemoryReadOnly MemoryFlags = 1 << 1
)

// SetMemory backs the guest-physical addresses from gpa on with host memory,
// as the given slot; it replaces what the slot held. The memory must be a
// mapping of its own (not from Go's heap), page-aligned, and stay mapped until
// the slot is deleted or the VM and its vCPUs are closed. KVM api.rst §4.35.
func (v *VM) SetMemory(slot uint32, flags MemoryFlags, gpa uint64, host []byte) error {
	arg := memoryRegion{
		Slot:          slot,
		Flags:         uint32(flags),
		GuestPhysAddr: gpa,
		MemorySize:    uint64(len(host)),
		UserspaceAddr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(host)))),
	}
	if _, err := ioctlPtr(v.fd, "KVM_SET_USER_MEMORY_REGION", reqSetMemoryRegion, &arg); err != nil {
		return fmt.Errorf("memory slot %d at %#x: %w", slot, gpa, err)
	}
	return nil
}

// DeleteMemory deletes a slot: the guest's accesses there become MMIO exits.
func (v *VM) DeleteMemory(slot uint32) error {
	return v.SetMemory(slot, 0, 0, nil)
}

// dirtyLog is struct kvm_dirty_log.
type dirtyLog struct {
	Slot   uint32
	_      uint32
	Bitmap uint64 // address
}

// DirtyLog returns which pages of a slot the guest has written since the last
// call, a bit for each page from the lowest on, and starts the record anew.
// pages is the slot's size in pages of 4096 bytes; the slot must have been set
// with [MemoryLogDirty]. KVM api.rst §4.8.
func (v *VM) DirtyLog(slot uint32, pages int) ([]uint64, error) {
	bitmap := make([]uint64, (pages+63)/64)
	arg := dirtyLog{Slot: slot, Bitmap: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(bitmap))))}
	_, err := ioctlPtr(v.fd, "KVM_GET_DIRTY_LOG", reqGetDirtyLog, &arg)
	// The kernel wrote through an address the collector does not know.
	runtime.KeepAlive(bitmap)
	if err != nil {
		return nil, fmt.Errorf("memory slot %d: %w", slot, err)
	}
	return bitmap, nil
}
