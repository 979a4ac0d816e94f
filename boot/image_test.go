package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What is refused, and with which words.
func TestParseRefuses(t *testing.T) {
	old := func(edit func(*SetupHeader)) []byte {
		h := modernHeader()
		edit(&h)
		return bzImage(t, h, nil)
	}
	arm := make([]byte, 4096)
	copy(arm, "MZ")
	copy(arm[0x38:], "ARM\x64")
	good := bzImage(t, modernHeader(), bytes.Repeat([]byte{1}, 64))
	load := func(paddr uint64) segment {
		return segment{kind: elf.PT_LOAD, vaddr: kernelBase + paddr, paddr: paddr, data: make([]byte, 4096)}
	}
	file := func(segments ...segment) []byte {
		return elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 16<<20, segments...)
	}
	tooMuch := load(16 << 20)
	tooMuch.memSize = 1 << 63
	tooMuch.paddr = 1<<63 + 4096
	bigEndian := vmlinux(t)
	bigEndian[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	moreInFile := vmlinux(t)
	binary.LittleEndian.PutUint64(moreInFile[64+40:], 1) // p_memsz of the first segment
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "empty"},
		{"short", []byte("x"), "not a Linux kernel"},
		{"text", bytes.Repeat([]byte("hello\n"), 1000), "not a Linux kernel"},
		{"JPEG", append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF"), make([]byte, 9000)...), "a JPEG picture, not a Linux kernel"},
		{"arm64 Image", arm, "a kernel for arm64, and this is an x86-64 machine"},
		{"EFI program", append([]byte("MZ"), make([]byte, 600)...), "an EFI program"},
		{"damaged gzip", []byte("\x1f\x8b\x08\x00"), "compressed with gzip: unexpected EOF; get the file anew"},
		{"damaged lzop", []byte(lzopMagic), "compressed with lzo: "},
		{"text in gzip", gzipped(t, []byte("hello")), "not a Linux kernel"},
		{"initrd in gzip", gzipped(t, []byte("070701000")), "--initrd"},
		{"twice compressed", gzipped(t, gzipped(t, good)), "what comes out as well; unpack it first: gzip -dc"},
		{"initrd", []byte("070701000"), "--initrd"},

		{"cut in the setup code", good[:700], "truncated: the setup code alone is 1024 bytes and the file has 700"},
		{"cut in the header", good[:0x210], "truncated"},
		{"cut in the payload", good[:len(good)-16], "truncated: its header says 2112 bytes and the file has 2096"},
		{"zImage", old(func(h *SetupHeader) { h.LoadFlags = 0 }), "zImage"},
		{"protocol 2.01", old(func(h *SetupHeader) { h.Version = 0x201 }), "boot protocol 2.01 is older than 2.02"},

		{"cut ELF header", vmlinux(t)[:40], "truncated"},
		{"cut segment table", vmlinux(t)[:100], "ELF segment 0: truncated"},
		{"cut segment", vmlinux(t)[:1000], "truncated: ELF segment 0 has 4096 bytes at 232 and the file ends at 1000"},
		{"class", append([]byte("\x7fELF\x03\x01"), make([]byte, 100)...), "unknown class 3"},
		{"big-endian", bigEndian, "big-endian"},
		{"arm64 ELF", elfFile(t, elf.ELFCLASS64, elf.EM_AARCH64, 0, load(16<<20)), "an ELF file for EM_AARCH64"},
		{"object file", file(), "without segments"},
		{"many segments", file(make([]segment, 65)...), "65 segments"},
		{"nothing to load", file(pvhNote(16 << 20)), "nothing to load"},
		{"segment where a PC has no RAM", file(load(0x9f000)), "no RAM between 0x9fc00 and 1 MiB"},
		{"segment from low memory to high", file(segment{kind: elf.PT_LOAD, vaddr: kernelBase, paddr: 0x8000, data: []byte{1}, memSize: 1 << 20}), "no RAM"},
		{"overlap", file(load(16<<20), load(16<<20+4095)), "ELF segment 1 overlaps another in memory, at 0x1000fff"},
		{"wrap", file(tooMuch), "damaged"},
		{"more in the file", moreInFile, "4096 bytes in the file, 1 in memory"},
		{"PVH entry outside", file(load(16<<20), pvhNote(32<<20)), "PVH entry 0x2000000 is in none of its segments"},
		{"huge notes", file(load(16<<20), segment{kind: elf.PT_NOTE, data: make([]byte, maxNotes+1)}), "ELF notes: 65537 bytes"},
		{"note past the end", file(load(16<<20), segment{kind: elf.PT_NOTE, data: pvhNote(0).data[:16]}), "reaches past the end"},
		{"32-bit without PVH", elfFile(t, elf.ELFCLASS32, elf.EM_386, 16<<20,
			segment{kind: elf.PT_LOAD, vaddr: 0xc100_0000, paddr: 16 << 20, data: make([]byte, 64)}), "without a PVH entry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := Parse("some/file", bytes.NewReader(tt.file), int64(len(tt.file)))
			if err == nil {
				t.Fatalf("Parse = %+v; want an error with %q", img, tt.want)
			}
			got := err.Error()
			if !strings.HasPrefix(got, "kernel some/file: ") || !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("Parse fails with\n%s\nwant one line with %q", got, tt.want)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("kernel"), bzImage(t, modernHeader(), nil), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Mkfifo(path("fifo"), 0o644), os.Symlink("/dev/zero", path("device"))); err != nil {
		t.Fatal(err)
	}
	// A pipe is as good as a file.
	written := make(chan error)
	go func() { written <- os.WriteFile(path("fifo"), bzImage(t, modernHeader(), nil), 0) }()
	piped, err := Open(path("fifo"))
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	if piped.Format != BzImage || piped.Close() != nil {
		t.Errorf("from a pipe: %v", piped.Format)
	}
	img, err := Open(path("kernel"))
	if err != nil {
		t.Fatal(err)
	}
	if img.Format != BzImage || img.Name != path("kernel") {
		t.Errorf("Open = %v %s", img.Format, img.Name)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{
		"missing": "no such file",
		"device":  "not a regular file",
		"":        "not a regular file",
	} {
		if img, err := Open(path(name)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path(name)) {
			t.Errorf("Open(%q) = %v, %v; want an error with %q and the path", name, img, err, want)
		}
	}
}

func TestProtocolNames(t *testing.T) {
	for _, p := range []Protocol{Auto, Direct, Linux64, Linux32, PVH} {
		if got, err := ParseProtocol(p.String()); got != p || err != nil {
			t.Errorf("ParseProtocol(%v) = %v, %v", p, got, err)
		}
	}
	if p, err := ParseProtocol("uefi"); err == nil || !strings.Contains(err.Error(), "auto, direct, linux64, linux32, pvh") {
		t.Errorf("ParseProtocol(uefi) = %v, %v; want an error that lists the names", p, err)
	}
}

// The protocol that Auto stands for, and those that an image refuses.
func TestProtocols(t *testing.T) {
	bz64 := bzImage(t, modernHeader(), nil)
	packed := bzImage(t, modernHeader(), testdata(t, Zstd))
	unknown := bzImage(t, modernHeader(), []byte("something that only the guest knows"))
	h := modernHeader()
	h.XLoadFlags = 0
	bz32 := bzImage(t, h, nil)
	load := segment{kind: elf.PT_LOAD, vaddr: kernelBase + 16<<20, paddr: 16 << 20, data: make([]byte, 64)}
	noPVH := elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 16<<20, load)
	flat := func(at uint64, more ...segment) []byte { // mapped to itself, as Unikraft's kernels are
		return elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, at, append([]segment{{kind: elf.PT_LOAD, vaddr: at, paddr: at, data: make([]byte, 64)}}, more...)...)
	}
	linked := segment{kind: elf.PT_INTERP, data: []byte("/lib/ld.so\x00")}
	abi := segment{kind: elf.PT_NOTE, data: note("GNU", 1, make([]byte, 16))}
	noEntry := elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 32<<20, load)
	elf32 := elfFile(t, elf.ELFCLASS32, elf.EM_386, 16<<20,
		segment{kind: elf.PT_LOAD, vaddr: 16 << 20, paddr: 16 << 20, data: make([]byte, 64)}, pvhNote(16<<20))
	tests := []struct {
		name     string
		file     []byte
		protocol Protocol
		want     Protocol
		mistake  string
	}{
		{"64-bit bzImage", packed, Auto, Direct, ""},
		{"64-bit bzImage", packed, Linux64, Linux64, ""},
		{"64-bit bzImage", packed, PVH, PVH, ""},
		{"64-bit bzImage without payload", bz64, Auto, Linux64, ""},
		{"64-bit bzImage without payload", bz64, Direct, 0, "no compressed kernel to unpack, and needs none: --boot-protocol auto enters it, as linux64 does"},
		{"64-bit bzImage of unknown compression", unknown, Auto, Linux64, ""},
		{"64-bit bzImage of unknown compression", unknown, Direct, 0, "nor compressed in a way that Linux knows"},
		{"64-bit bzImage", bz64, Linux32, Linux32, ""},
		{"64-bit bzImage", bz64, PVH, 0, "no compressed kernel to unpack, and needs none: --boot-protocol auto enters it, as linux64 does"},
		{"32-bit bzImage", bz32, Auto, Linux32, ""},
		{"32-bit bzImage", bz32, Linux64, 0, "use --boot-protocol linux32"},
		{"vmlinux", vmlinux(t), Auto, PVH, ""},
		{"vmlinux", vmlinux(t), Linux64, Linux64, ""},
		{"vmlinux", vmlinux(t), Linux32, 0, "this ELF image has no linux32 entry"},
		{"vmlinux without PVH", noPVH, Auto, Linux64, ""},
		{"vmlinux without PVH", noPVH, PVH, 0, "use --boot-protocol linux64"},
		{"identity-mapped ELF", flat(1 << 20), Auto, Linux64, ""},
		{"identity-mapped ELF", flat(1 << 20), Linux64, Linux64, ""},
		{"identity-mapped ELF with PVH", flat(1<<20, pvhNote(1<<20)), Auto, PVH, ""},
		{"identity-mapped ELF with PVH", flat(1<<20, pvhNote(1<<20)), Linux64, Linux64, ""},
		{"static program", flat(4 << 20), Auto, 0, "an ELF program for an operating system, not a Linux kernel"},
		{"static program", flat(4 << 20), Linux64, Linux64, ""},
		{"static program of LLVM's", flat(2 << 20), Auto, 0, "--boot-protocol linux64"},
		{"static program elsewhere", flat(1<<20, abi), Auto, 0, "an ELF program"},
		{"dynamic program", flat(1<<20, linked), Auto, 0, "an ELF program"},
		{"dynamic program", flat(1<<20, linked), Linux64, Linux64, ""},
		{"gzipped ELF", gzipped(t, vmlinux(t)), Auto, PVH, ""},
		{"gzipped bzImage", gzipped(t, packed), Auto, Direct, ""},
		{"vmlinux without entry", noEntry, Auto, 0, "without a 64-bit entry"},
		{"32-bit ELF", elf32, Auto, PVH, ""},
		{"32-bit ELF", elf32, Linux64, 0, "without a 64-bit entry"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.protocol.String(), func(t *testing.T) {
			e, err := start(parse(t, tt.file), newGuest(t, 32<<20), Params{Protocol: tt.protocol})
			switch {
			case tt.mistake == "" && (err != nil || e.Protocol != tt.want):
				t.Errorf("Load = %v, %v; want %v", e.Protocol, err, tt.want)
			case tt.mistake != "" && (err == nil || !strings.Contains(err.Error(), tt.mistake)):
				t.Errorf("Load fails with %v; want %q", err, tt.mistake)
			}
		})
	}
}

func TestCmdlineRefused(t *testing.T) {
	bz := bzImage(t, modernHeader(), nil) // takes 100
	tests := []struct {
		name    string
		file    []byte
		cmdline string
		want    string // "" for success
	}{
		{"as long as it may be", bz, strings.Repeat("x", 100), ""},
		{"too long", bz, strings.Repeat("x", 101), "has 101 characters and this kernel takes 100 at most"},
		{"as long as an ELF takes", vmlinux(t), strings.Repeat("x", 2047), ""},
		{"too long for an ELF", vmlinux(t), strings.Repeat("x", 2048), "has 2048 characters and this kernel takes 2047"},
		{"newline", bz, "a\nb", `'\n' at character 1`},
		{"NUL", bz, "abc\x00", `'\x00' at character 3`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := newGuest(t, 32<<20)
			_, err := start(parse(t, tt.file), mem, Params{Cmdline: tt.cmdline})
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := string(bytesAt(t, mem, cmdlineAddr, len(tt.cmdline)+1)); got != tt.cmdline+"\x00" {
					t.Errorf("memory holds %q", got)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Load fails with %v; want %q", err, tt.want)
			}
		})
	}
}
