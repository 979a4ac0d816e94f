package boot

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"debug/elf"
	"encoding/binary"
	"testing"

	"vmm/memory"
)

// gzipped is data as gzip compresses it.
func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newGuest is a guest with size bytes of RAM.
func newGuest(t testing.TB, size uint64) *memory.Guest {
	t.Helper()
	g, err := memory.New(memory.Layout(size), memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// modernHeader is the setup header of a small 64-bit kernel.
func modernHeader() SetupHeader {
	return SetupHeader{
		SetupSects:        1,
		VidMode:           0x1234,
		BootFlag:          bootFlag,
		Jump:              0x6aeb, // to 0x26c
		Magic:             headerMagic,
		Version:           0x20f,
		KernelVersion:     0x100,
		LoadFlags:         loadedHigh,
		Code32Start:       0x10_0000,
		InitrdAddrMax:     0x7fff_ffff,
		KernelAlignment:   2 << 20,
		RelocatableKernel: 1,
		XLoadFlags:        xlfKernel64,
		CmdlineSize:       100,
		PayloadOffset:     codeSize,
		PrefAddress:       16 << 20,
		InitSize:          4 << 20,
	}
}

// codeSize is the size of the protected-mode code that bzImage makes before
// the payload.
const codeSize = 1024

// bzImage makes a kernel file: setup code of two sectors, protected-mode code,
// a payload. It fills in the sizes that h leaves zero.
func bzImage(t testing.TB, h SetupHeader, payload []byte) []byte {
	t.Helper()
	if h.PayloadLength == 0 {
		h.PayloadLength = uint32(len(payload))
	}
	if h.SysSize == 0 {
		h.SysSize = uint32(codeSize+len(payload)+15) / 16
	}
	file := bytes.Repeat([]byte{0xcc}, 2*512)
	if _, err := binary.Encode(file[headerOffset:], binary.LittleEndian, &h); err != nil {
		t.Fatal(err)
	}
	copy(file[0x300:], "6.15.3 (someone@example) #1\x00") // has no checksum any more
	for i := range codeSize {
		file = append(file, byte(i/3))
	}
	return append(file, payload...)
}

// segment is a program header and what it refers to.
type segment struct {
	kind         elf.ProgType
	vaddr, paddr uint64
	data         []byte
	memSize      uint64 // 0: as much as there is data
}

// elfFile makes an ELF executable of either class.
func elfFile(t testing.TB, class elf.Class, machine elf.Machine, entry uint64, segments ...segment) []byte {
	t.Helper()
	var headers, contents []byte
	var err error
	add := func(v any) {
		if headers, err = binary.Append(headers, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	size := 64 + 56*len(segments)
	if class == elf.ELFCLASS32 {
		size = 52 + 32*len(segments)
		add(elf.Header32{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Entry: uint32(entry),
			Phoff: 52, Phentsize: 32, Phnum: uint16(len(segments))})
	} else {
		add(elf.Header64{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Entry: entry,
			Phoff: 64, Phentsize: 56, Phnum: uint16(len(segments))})
	}
	for _, s := range segments {
		off, filesz, memsz := uint64(size+len(contents)), uint64(len(s.data)), max(s.memSize, uint64(len(s.data)))
		if class == elf.ELFCLASS32 {
			add(elf.Prog32{Type: uint32(s.kind), Off: uint32(off), Vaddr: uint32(s.vaddr), Paddr: uint32(s.paddr),
				Filesz: uint32(filesz), Memsz: uint32(memsz), Flags: uint32(elf.PF_R | elf.PF_X)})
		} else {
			add(elf.Prog64{Type: uint32(s.kind), Off: off, Vaddr: s.vaddr, Paddr: s.paddr,
				Filesz: filesz, Memsz: memsz, Flags: uint32(elf.PF_R | elf.PF_X)})
		}
		contents = append(contents, s.data...)
	}
	return append(headers, contents...)
}

// note is the contents of a PT_NOTE segment with one note.
func note(owner string, kind uint32, desc []byte) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, uint32(len(owner)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	pad := func() {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	b = append(b, owner+"\x00"...)
	pad()
	b = append(b, desc...)
	pad()
	return b
}

// pvhNote is the segment with the note of the PVH entry.
func pvhNote(entry uint32) segment {
	return segment{kind: elf.PT_NOTE, data: note(ownerXen, notePVH, binary.LittleEndian.AppendUint32(nil, entry))}
}

const kernelBase = 0xffff_ffff_8000_0000

// vmlinux is an ELF kernel like Linux: linked high, loaded at 16 MiB, with a
// virtual address as its entry.
func vmlinux(t testing.TB) []byte {
	return elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, kernelBase+16<<20+0x10,
		segment{kind: elf.PT_LOAD, vaddr: kernelBase + 16<<20, paddr: 16 << 20, data: bytes.Repeat([]byte("text"), 1024)},
		segment{kind: elf.PT_LOAD, vaddr: kernelBase + 18<<20, paddr: 18 << 20, data: []byte("data"), memSize: 1 << 20},
		pvhNote(16<<20+0x20))
}

func parse(t testing.TB, file []byte) *Image {
	t.Helper()
	img, err := Parse("vmlinuz", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// start loads an image and prepares its entry.
func start(img *Image, mem *memory.Guest, p Params) (Entry, error) {
	if p.Random == nil {
		p.Random = rand.Reader
	}
	l, err := img.Load(mem, p)
	if err != nil {
		return Entry{}, err
	}
	return l.Enter(p.Cmdline, FirmwareAddr)
}

// bytesAt is a copy of n bytes of guest memory.
func bytesAt(t testing.TB, mem *memory.Guest, addr uint64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := mem.ReadAt(b, int64(addr)); err != nil {
		t.Fatal(err)
	}
	return b
}

// initrd is one of n bytes that are not zero.
func initrd(n int) *Initrd {
	return &Initrd{Name: "initrd.img", Data: bytes.NewReader(bytes.Repeat([]byte{0xa5}, n)), Size: int64(n)}
}
