package boot

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vmm/memory"
)

// The page tables, walked as the processor does, map all of the first 4 GiB
// to itself. Intel SDM vol. 3 §4.5.
func TestPageTables(t *testing.T) {
	mem := newGuest(t, 1<<20)
	const cr3 = pageTablesAddr
	if err := writePageTables(mem, cr3, memory.Range{Start: 16 << 20, Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for addr := uint64(0); addr < 4<<30; addr += 2 << 20 {
		if pte := walk(t, mem, cr3, addr); pte != addr|0x83 {
			t.Fatalf("%#x: entry %#x; want a writable 2 MiB page", addr, pte)
		}
	}
	if pte := walk(t, mem, cr3, 4<<30); pte != 0 {
		t.Errorf("above 4 GiB: %#x", pte)
	}

	// A kernel above that, across the end of what a page of a table holds.
	mem = newGuest(t, 1<<20)
	if err := writePageTables(mem, cr3, memory.Range{Start: 512<<30 - 4<<20, Size: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	for addr := uint64(511 << 30); addr < 513<<30; addr += 2 << 20 {
		if pte := walk(t, mem, cr3, addr); pte != addr|0x83 {
			t.Fatalf("%#x: entry %#x; want a writable 2 MiB page", addr, pte)
		}
	}
	if err := writePageTables(newGuest(t, 1<<20), cr3, memory.Range{Start: 8 << 30, Size: 32 << 30}); err == nil {
		t.Error("a kernel of 32 GiB has page tables")
	}
}

// walk is the page-directory entry for an address, 0 where there is none.
func walk(t *testing.T, mem *memory.Guest, cr3, addr uint64) uint64 {
	t.Helper()
	table := cr3
	for _, shift := range []int{39, 30, 21} {
		entry, err := mem.Uint64(table + 8*(addr>>shift&511))
		if err != nil {
			t.Fatal(err)
		}
		if shift == 21 {
			return entry
		}
		if entry&0x83 != 3 {
			if entry != 0 {
				t.Fatalf("%#x: table entry %#x", addr, entry)
			}
			return 0
		}
		table = entry & 0x000f_ffff_ffff_f000
	}
	panic("not reached")
}

// Descriptors as the protocols prescribe them: flat, of the mode's kind, at the
// selectors of the protocol.
func TestGDT(t *testing.T) {
	const (
		code64 = 0x00af_9b00_0000_ffff // G, L, present, execute/read
		code32 = 0x00cf_9b00_0000_ffff // G, D
	)
	for _, tt := range []struct {
		protocol Protocol
		mode     Mode
		cs, ds   uint16
		code     uint64
	}{
		{Direct, LongMode, 0x10, 0x18, code64},
		{Linux64, LongMode, 0x10, 0x18, code64},
		{Linux32, ProtectedMode, 0x10, 0x18, code32},
		{PVH, ProtectedMode, 0x08, 0x10, code32},
		{Multiboot, ProtectedMode, 0x08, 0x10, code32},
	} {
		mem := newGuest(t, 1<<20)
		e := Entry{Protocol: tt.protocol, Mode: tt.mode}
		if err := writeGDT(&room{mem: mem}, &e); err != nil {
			t.Fatal(err)
		}
		if e.CS != tt.cs || e.DS != tt.ds {
			t.Errorf("%v: selectors %#x and %#x; want %#x and %#x", tt.protocol, e.CS, e.DS, tt.cs, tt.ds)
		}
		for selector, want := range map[uint16]uint64{0: 0, tt.cs: tt.code, tt.ds: 0x00cf_9300_0000_ffff} {
			if got, err := mem.Uint64(e.GDT.Base + uint64(selector)); got != want || err != nil || selector+7 > e.GDT.Limit {
				t.Errorf("%v, selector %#x: %#x, %v, limit %#x; want %#x", tt.protocol, selector, got, err, e.GDT.Limit, want)
			}
		}
	}
}

// What lies below 1 MiB lies apart.
func TestLayout(t *testing.T) {
	pieces := []memory.Range{
		{Start: 0, Size: 0x500}, // vectors and BIOS data area
		{Start: gdtAddr, Size: 48},
		{Start: startInfoAddr, Size: 56 + 32 + 128*24},
		{Start: zeroPageAddr, Size: memory.PageSize},
		{Start: stackAddr, Size: memory.PageSize},
		{Start: pageTablesAddr, Size: 6 * memory.PageSize},
		{Start: cmdlineAddr, Size: lowMemoryEnd - cmdlineAddr},
		{Start: FirmwareAddr, Size: FirmwareSize},
		{Start: highMemory, Size: 1},
	}
	for i, a := range pieces {
		for _, b := range pieces[:i] {
			if a.Overlaps(b) {
				t.Errorf("%+v overlaps %+v", a, b)
			}
		}
	}
}

// The fields of the setup header lie where
// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", has them.
func TestSetupHeaderOffsets(t *testing.T) {
	tests := []struct {
		offset int
		set    func(*SetupHeader)
	}{
		{0x1f1, func(h *SetupHeader) { h.SetupSects = 1 }},
		{0x1f2, func(h *SetupHeader) { h.RootFlags = 1 }},
		{0x1f4, func(h *SetupHeader) { h.SysSize = 1 }},
		{0x1f8, func(h *SetupHeader) { h.RAMSize = 1 }},
		{0x1fa, func(h *SetupHeader) { h.VidMode = 1 }},
		{0x1fc, func(h *SetupHeader) { h.RootDev = 1 }},
		{0x1fe, func(h *SetupHeader) { h.BootFlag = 1 }},
		{0x200, func(h *SetupHeader) { h.Jump = 1 }},
		{0x202, func(h *SetupHeader) { h.Magic = 1 }},
		{0x206, func(h *SetupHeader) { h.Version = 1 }},
		{0x208, func(h *SetupHeader) { h.RealmodeSwitch = 1 }},
		{0x20c, func(h *SetupHeader) { h.StartSysSeg = 1 }},
		{0x20e, func(h *SetupHeader) { h.KernelVersion = 1 }},
		{0x210, func(h *SetupHeader) { h.TypeOfLoader = 1 }},
		{0x211, func(h *SetupHeader) { h.LoadFlags = 1 }},
		{0x212, func(h *SetupHeader) { h.SetupMoveSize = 1 }},
		{0x214, func(h *SetupHeader) { h.Code32Start = 1 }},
		{0x218, func(h *SetupHeader) { h.RamdiskImage = 1 }},
		{0x21c, func(h *SetupHeader) { h.RamdiskSize = 1 }},
		{0x220, func(h *SetupHeader) { h.BootsectKludge = 1 }},
		{0x224, func(h *SetupHeader) { h.HeapEndPtr = 1 }},
		{0x226, func(h *SetupHeader) { h.ExtLoaderVer = 1 }},
		{0x227, func(h *SetupHeader) { h.ExtLoaderType = 1 }},
		{0x228, func(h *SetupHeader) { h.CmdLinePtr = 1 }},
		{0x22c, func(h *SetupHeader) { h.InitrdAddrMax = 1 }},
		{0x230, func(h *SetupHeader) { h.KernelAlignment = 1 }},
		{0x234, func(h *SetupHeader) { h.RelocatableKernel = 1 }},
		{0x235, func(h *SetupHeader) { h.MinAlignment = 1 }},
		{0x236, func(h *SetupHeader) { h.XLoadFlags = 1 }},
		{0x238, func(h *SetupHeader) { h.CmdlineSize = 1 }},
		{0x23c, func(h *SetupHeader) { h.HardwareSubarch = 1 }},
		{0x240, func(h *SetupHeader) { h.HardwareSubarchData = 1 }},
		{0x248, func(h *SetupHeader) { h.PayloadOffset = 1 }},
		{0x24c, func(h *SetupHeader) { h.PayloadLength = 1 }},
		{0x250, func(h *SetupHeader) { h.SetupData = 1 }},
		{0x258, func(h *SetupHeader) { h.PrefAddress = 1 }},
		{0x260, func(h *SetupHeader) { h.InitSize = 1 }},
		{0x264, func(h *SetupHeader) { h.HandoverOffset = 1 }},
		{0x268, func(h *SetupHeader) { h.KernelInfoOffset = 1 }},
	}
	for _, tt := range tests {
		var h SetupHeader
		tt.set(&h)
		b, err := binary.Append(nil, binary.LittleEndian, &h)
		if err != nil {
			t.Fatal(err)
		}
		if got := headerOffset + bytes.IndexByte(b, 1); got != tt.offset || len(b) != headerSize {
			t.Errorf("field at %#x; want %#x (header of %d bytes, %d expected)", got, tt.offset, len(b), headerSize)
		}
	}
}
