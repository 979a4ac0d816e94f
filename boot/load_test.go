package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vmm/memory"
)

// e820 is the memory map in a zero page.
func e820(page []byte) []mapEntry {
	var entries []mapEntry
	for i := range int(page[0x1e8]) {
		b := page[0x2d0+20*i:]
		entries = append(entries, mapEntry{
			memory.Range{Start: binary.LittleEndian.Uint64(b), Size: binary.LittleEndian.Uint64(b[8:])},
			binary.LittleEndian.Uint32(b[16:]),
		})
	}
	return entries
}

var (
	compareMap = cmp.AllowUnexported(mapEntry{})
	ignoreTold = cmpopts.IgnoreFields(Entry{}, "Told") // which TestRoom looks at
)

func TestLoadBzImage(t *testing.T) {
	const mib = 1 << 20
	edit := func(f func(*SetupHeader)) SetupHeader {
		h := modernHeader()
		f(&h)
		return h
	}
	tests := []struct {
		name     string
		header   SetupHeader
		protocol Protocol
		want     Entry
	}{
		{"64-bit", modernHeader(), Linux64, Entry{
			Mode: LongMode, RIP: 16*mib + 0x200, CR3: pageTablesAddr,
			Kernel: memory.Range{Start: 16 * mib, Size: 4 * mib},
		}},
		{"32-bit", modernHeader(), Linux32, Entry{
			Mode: ProtectedMode, RIP: 16 * mib,
			Kernel: memory.Range{Start: 16 * mib, Size: 4 * mib},
		}},
		// It is read to 1 MiB and moves itself.
		{"not relocatable", edit(func(h *SetupHeader) { h.RelocatableKernel = 0 }), Linux32, Entry{
			Mode: ProtectedMode, RIP: mib,
			Kernel: memory.Range{Start: mib, Size: 19 * mib},
		}},
		// Fields that came after 2.06 are not believed.
		{"protocol 2.06", edit(func(h *SetupHeader) { h.Version = 0x206 }), Linux32, Entry{
			Mode: ProtectedMode, RIP: mib,
			Kernel: memory.Range{Start: mib, Size: codeSize + 5},
		}},
		{"file larger than init_size", edit(func(h *SetupHeader) { h.InitSize = 0 }), Linux64, Entry{
			Mode: LongMode, RIP: 16*mib + 0x200, CR3: pageTablesAddr,
			Kernel: memory.Range{Start: 16 * mib, Size: codeSize + 5},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const size = 64 * mib
			mem := newGuest(t, size)
			file := bzImage(t, tt.header, []byte("hello"))
			e, err := start(parse(t, file), mem, Params{Protocol: tt.protocol, Cmdline: "quiet", Initrd: initrd(5000)})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.Protocol, want.Cmdline = tt.protocol, "quiet"
			want.RSI, want.RSP = zeroPageAddr, stackAddr+memory.PageSize
			want.CS, want.DS = 0x10, 0x18
			want.GDT = Table{Base: gdtAddr, Limit: 47}
			want.Initrd = memory.Range{Start: size - 8192, Size: 5000}
			if tt.header.Version >= 0x208 {
				want.Unpacker = want.Kernel.Start + codeSize + 5 // behind the payload
			}
			if diff := cmp.Diff(want, e, ignoreTold); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
			code := file[1024:]
			if !bytes.Equal(bytesAt(t, mem, e.RIP&^0x3ff, len(code)), code) {
				t.Error("memory does not hold the protected-mode code")
			}
			if !bytes.Equal(bytesAt(t, mem, e.Initrd.Start, 5000), bytes.Repeat([]byte{0xa5}, 5000)) {
				t.Error("memory does not hold the initrd")
			}

			// Offsets of Documentation/arch/x86/zero-page.rst and boot.rst.
			page := bytesAt(t, mem, zeroPageAddr, memory.PageSize)
			le := binary.LittleEndian
			for _, f := range []struct {
				name      string
				got, want uint64
			}{
				{"acpi_rsdp_addr", le.Uint64(page[0x70:]), FirmwareAddr},
				{"ext_ramdisk_image", uint64(le.Uint32(page[0xc0:])), 0},
				{"sentinel", uint64(page[0x1ef]), 0},
				{"vid_mode", uint64(le.Uint16(page[0x1fa:])), 0xffff},
				{"boot_flag", uint64(le.Uint16(page[0x1fe:])), 0xaa55},
				{"type_of_loader", uint64(page[0x210]), 0xff},
				{"loadflags", uint64(page[0x211]), 0x81},
				{"code32_start", uint64(le.Uint32(page[0x214:])), e.RIP &^ 0x3ff},
				{"ramdisk_image", uint64(le.Uint32(page[0x218:])), size - 8192},
				{"ramdisk_size", uint64(le.Uint32(page[0x21c:])), 5000},
				{"heap_end_ptr", uint64(le.Uint16(page[0x224:])), 0xfe00},
				{"cmd_line_ptr", uint64(le.Uint32(page[0x228:])), cmdlineAddr},
				{"xloadflags", uint64(page[0x236]), 1}, // as in the file
				{"init_size", uint64(le.Uint32(page[0x260:])), uint64(tt.header.InitSize)},
			} {
				if f.got != f.want {
					t.Errorf("zero page: %s = %#x; want %#x", f.name, f.got, f.want)
				}
			}
			wantMap := []mapEntry{
				{memory.Range{Start: 0, Size: 0x9fc00}, 1},
				{memory.Range{Start: 0x9fc00, Size: 0x400}, 2},
				{memory.Range{Start: 0xf0000, Size: 0x10000}, 2},
				{memory.Range{Start: mib, Size: size - mib}, 1},
			}
			if diff := cmp.Diff(wantMap, e820(page), compareMap); diff != "" {
				t.Errorf("memory map (-want +got):\n%s", diff)
			}
		})
	}
}

// RAM goes on above the hole; an initrd does not go there.
func TestLoadAboveHole(t *testing.T) {
	mem := newGuest(t, 5<<30)
	e, err := start(parse(t, bzImage(t, modernHeader(), nil)), mem, Params{Initrd: initrd(1)})
	if err != nil {
		t.Fatal(err)
	}
	if want := (memory.Range{Start: 0x7fff_f000, Size: 1}); e.Initrd != want {
		t.Errorf("initrd at %+v; want %+v, below initrd_addr_max", e.Initrd, want)
	}
	want := []mapEntry{
		{memory.Range{Start: 0, Size: 0x9fc00}, 1},
		{memory.Range{Start: 0x9fc00, Size: 0x400}, 2},
		{memory.Range{Start: 0xf0000, Size: 0x10000}, 2},
		{memory.Range{Start: 1 << 20, Size: 3<<30 - 1<<20}, 1},
		{memory.Range{Start: 4 << 30, Size: 2 << 30}, 1},
	}
	if diff := cmp.Diff(want, e820(bytesAt(t, mem, zeroPageAddr, memory.PageSize)), compareMap); diff != "" {
		t.Errorf("memory map (-want +got):\n%s", diff)
	}
}

func TestLoadELF(t *testing.T) {
	const size = 64 << 20
	file := vmlinux(t)
	elf32 := elfFile(t, elf.ELFCLASS32, elf.EM_386, 0,
		segment{kind: elf.PT_LOAD, vaddr: 1 << 20, paddr: 1 << 20, data: []byte("tiny")}, pvhNote(1<<20+2))
	tests := []struct {
		name     string
		file     []byte
		protocol Protocol
		want     Entry
	}{
		{"Linux64", file, Linux64, Entry{
			Mode: LongMode, RIP: 16<<20 + 0x10, RSI: zeroPageAddr, CR3: pageTablesAddr,
			Kernel: memory.Range{Start: 16 << 20, Size: 3 << 20},
		}},
		{"PVH", file, PVH, Entry{
			Mode: ProtectedMode, RIP: 16<<20 + 0x20, RBX: startInfoAddr,
			Kernel: memory.Range{Start: 16 << 20, Size: 3 << 20},
		}},
		{"32-bit PVH", elf32, PVH, Entry{
			Mode: ProtectedMode, RIP: 1<<20 + 2, RBX: startInfoAddr,
			Kernel: memory.Range{Start: 1 << 20, Size: 4},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := newGuest(t, size)
			e, err := start(parse(t, tt.file), mem, Params{Protocol: tt.protocol, Initrd: initrd(4096)})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.Protocol, want.RSP = tt.protocol, stackAddr+memory.PageSize
			want.GDT, want.CS, want.DS = Table{Base: gdtAddr, Limit: 39}, 0x08, 0x10
			if tt.protocol == Linux64 {
				want.GDT, want.CS, want.DS = Table{Base: gdtAddr, Limit: 47}, 0x10, 0x18
			}
			want.Initrd = memory.Range{Start: size - 4096, Size: 4096}
			if diff := cmp.Diff(want, e, ignoreTold); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
		})
	}

	mem := newGuest(t, size)
	if _, err := start(parse(t, file), mem, Params{Protocol: Linux64}); err != nil {
		t.Fatal(err)
	}
	if got := string(bytesAt(t, mem, 16<<20+4092, 4)) + string(bytesAt(t, mem, 18<<20, 5)); got != "textdata\x00" {
		t.Errorf("memory holds %q at the ends of the segments", got)
	}
	page := bytesAt(t, mem, zeroPageAddr, memory.PageSize)
	if magic := string(page[0x202:0x206]); magic != "HdrS" || page[0x210] != 0xff || binary.LittleEndian.Uint64(page[0x70:]) != FirmwareAddr {
		t.Errorf("zero page: header %q, type_of_loader %#x, acpi_rsdp_addr %#x", magic, page[0x210], page[0x70:0x78])
	}
}

// The start_info and what it leads to, at the offsets that
// include/xen/interface/hvm/start_info.h draws.
func TestStartInfo(t *testing.T) {
	const size = 5 << 30
	mem := newGuest(t, size)
	e, err := start(parse(t, vmlinux(t)), mem, Params{Cmdline: "quiet", Initrd: initrd(4096)})
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	info := bytesAt(t, mem, e.RBX, 56)
	modules, memmap := le.Uint64(info[16:]), le.Uint64(info[40:])
	for _, f := range []struct {
		name      string
		got, want uint64
	}{
		{"magic", uint64(le.Uint32(info)), 0x336ec578},
		{"version", uint64(le.Uint32(info[4:])), 1},
		{"flags", uint64(le.Uint32(info[8:])), 0},
		{"nr_modules", uint64(le.Uint32(info[12:])), 1},
		{"cmdline_paddr", le.Uint64(info[24:]), cmdlineAddr},
		{"rsdp_paddr", le.Uint64(info[32:]), FirmwareAddr},
		{"memmap_entries", uint64(le.Uint32(info[48:])), 5},
		{"module paddr", le.Uint64(bytesAt(t, mem, modules, 8)), e.Initrd.Start},
		{"module size", le.Uint64(bytesAt(t, mem, modules+8, 8)), 4096},
	} {
		if f.got != f.want {
			t.Errorf("%s = %#x; want %#x", f.name, f.got, f.want)
		}
	}
	var got []mapEntry
	for i := range uint64(5) {
		b := bytesAt(t, mem, memmap+24*i, 24)
		got = append(got, mapEntry{memory.Range{Start: le.Uint64(b), Size: le.Uint64(b[8:])}, le.Uint32(b[16:])})
	}
	if diff := cmp.Diff(memoryMap(mem), got, compareMap); diff != "" {
		t.Errorf("memory map (-want +got):\n%s", diff)
	}

	// Without an initrd there is no module.
	mem = newGuest(t, 32<<20)
	if e, err = start(parse(t, vmlinux(t)), mem, Params{}); err != nil {
		t.Fatal(err)
	}
	info = bytesAt(t, mem, e.RBX, 56)
	if n, list := le.Uint32(info[12:]), le.Uint64(info[16:]); n != 0 || list != 0 {
		t.Errorf("without an initrd: %d modules at %#x", n, list)
	}
}

func TestDoesNotFit(t *testing.T) {
	bz := func(edit func(*SetupHeader)) []byte {
		h := modernHeader()
		edit(&h)
		return bzImage(t, h, nil)
	}
	plain := bz(func(*SetupHeader) {})
	huge := &Initrd{Name: "initrd.img", Size: math.MaxInt64}
	tests := []struct {
		name   string
		file   []byte
		memory uint64
		initrd *Initrd
		want   string // "" for success
	}{
		{"kernel just fits", plain, 20 << 20, nil, ""},
		{"kernel does not", plain, 20<<20 - 4096, nil, "kernel vmlinuz: it needs 20M of memory to start; choose --memory 20M or more"},
		{"ELF just fits", vmlinux(t), 19 << 20, nil, ""},
		{"ELF does not", vmlinux(t), 19<<20 - 4096, nil, "kernel vmlinuz: it needs 19M of memory"},
		{"preferred address in the hole", bz(func(h *SetupHeader) { h.PrefAddress = 3 << 30 }), 32 << 20, nil, "damaged"},
		{"preferred address wraps", bz(func(h *SetupHeader) { h.PrefAddress = math.MaxUint64 - 4095 }), 32 << 20, nil, "damaged"},
		{"fixed address wraps", bz(func(h *SetupHeader) { h.PrefAddress, h.RelocatableKernel = math.MaxUint64-4095, 0 }), 32 << 20, nil, "damaged"},

		{"initrd just fits", plain, 22 << 20, initrd(2 << 20), ""},
		{"initrd does not", plain, 22 << 20, initrd(2<<20 + 1), "initrd initrd.img: 2097153 bytes do not fit beside the kernel; choose --memory 23M or more"},
		{"initrd with as much as was asked for", plain, 23 << 20, initrd(2<<20 + 1), ""},
		{"empty initrd", plain, 32 << 20, initrd(0), "initrd initrd.img: the file is empty; give a cpio archive, or no --initrd"},
		{"initrd too large for any memory", plain, 32 << 20, huge, "do not fit between the kernel's end at 0x1400000 and 0x80000000"},
		{"initrd_addr_max just above the kernel", bz(func(h *SetupHeader) { h.InitrdAddrMax = 20<<20 + 4095 }), 32 << 20, initrd(4097), "between the kernel's end at 0x1400000 and 0x1401000"},
		{"a page below it", bz(func(h *SetupHeader) { h.InitrdAddrMax = 20<<20 + 4095 }), 32 << 20, initrd(4096), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := start(parse(t, tt.file), newGuest(t, tt.memory), Params{Initrd: tt.initrd})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Load fails with %v; want %q", err, tt.want)
			}
		})
	}
}

// A file that shrinks between Parse and Load.
func TestShrunkFile(t *testing.T) {
	file := bzImage(t, modernHeader(), make([]byte, 10000))
	img, err := Parse("vmlinuz", bytes.NewReader(file[:9000]), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(img, newGuest(t, 32<<20), Params{Protocol: Linux64}); err == nil || !strings.Contains(err.Error(), io.ErrUnexpectedEOF.Error()) {
		t.Errorf("Load = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	img = parse(t, file)
	cut := &Initrd{Name: "initrd.img", Data: strings.NewReader("short"), Size: 10}
	if _, err := start(img, newGuest(t, 32<<20), Params{Protocol: Linux64, Initrd: cut}); err == nil || !strings.Contains(err.Error(), "initrd initrd.img") {
		t.Errorf("Load = %v; want an error about the initrd", err)
	}
}
